"""The campaigns room's tasks."""

from __future__ import annotations

import uuid

from celery import shared_task

from sending.campaigns import jobs
from sending.campaigns.preparation import prepare_campaign
from sending.campaigns.sweep import sweep_campaigns

# Sweeps, compiling and bounces share the workers: millions of messages must not keep them waiting.
_SLICE_SECONDS = 5.0


@shared_task(name=jobs.PREPARE)
def prepare(tenant_id: str, campaign_id: str) -> None:
    """Make a started campaign's messages, for some seconds; then the job goes to the line's end."""
    prepare_campaign(
        tenant_id=uuid.UUID(tenant_id), campaign_id=uuid.UUID(campaign_id), seconds=_SLICE_SECONDS
    )


@shared_task(name=jobs.SWEEP)
def sweep() -> None:
    """Start campaigns that are due, take up preparation that stopped, end what is sent."""
    sweep_campaigns()
