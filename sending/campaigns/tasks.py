"""The campaigns room's tasks."""

from __future__ import annotations

import uuid

from celery import shared_task

from esp.kit.jobs import enqueue_now
from esp.kit.stopping import is_stopping
from sending.campaigns import jobs
from sending.campaigns.preparation import prepare_campaign
from sending.campaigns.sweep import sweep_campaigns


@shared_task(name=jobs.PREPARE)
def prepare(tenant_id: str, campaign_id: str) -> None:
    """Make a started campaign's messages."""
    prepare_campaign(tenant_id=uuid.UUID(tenant_id), campaign_id=uuid.UUID(campaign_id))
    if is_stopping():
        enqueue_now(jobs.PREPARE, tenant_id, campaign_id)  # it wakes whoever comes next


@shared_task(name=jobs.SWEEP)
def sweep() -> None:
    """Start campaigns that are due, take up preparation that stopped, end what is sent."""
    sweep_campaigns()
