"""The feedback room's tasks."""

from __future__ import annotations

import uuid

from celery import shared_task
from django.utils import timezone

from sending.feedback import jobs
from sending.feedback.provider_reports import purge_reports, work_reports
from sending.feedback.services import process_inbound, purge_inbound, sweep_inbound


@shared_task(name=jobs.PROCESS)
def process(inbound_id: str) -> None:
    """Work one stored mail."""
    process_inbound(uuid.UUID(inbound_id))


@shared_task(name=jobs.SWEEP)
def sweep() -> None:
    """Work mails and reports whose wake-up was lost, and try failed ones again."""
    sweep_inbound()
    work_reports()


@shared_task(name=jobs.REPORTS)
def reports() -> None:
    """Work what providers have reported."""
    work_reports()


@shared_task(name=jobs.PURGE)
def purge() -> None:
    """Forget old mails and reports."""
    purge_inbound(now=timezone.now())
    purge_reports(now=timezone.now())
