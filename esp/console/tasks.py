"""The console's jobs."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from esp.console import jobs
from esp.console.lane_queue import bounce_chunk, requeue_chunk
from esp.console.queue_facts import count_facts, keep_facts


@shared_task(name=jobs.COUNT_QUEUE)
def count_queue() -> None:
    """Count the queue and the lanes for pages and metrics; the web's role sees no other tenants."""
    keep_facts(count_facts())


@shared_task(name=jobs.REQUEUE_LANE)
def requeue_lane(source_id: str, site: str) -> None:
    """Make what waits in a lane due now; doing it twice changes nothing."""
    now = timezone.now()
    while requeue_chunk(source_id=source_id, site=site, now=now):
        pass
    keep_facts(count_facts())


@shared_task(name=jobs.BOUNCE_LANE)
def bounce_lane(source_id: str, site: str, reason: str) -> None:
    """End what waits in a lane; doing it twice ends what has come since."""
    now = timezone.now()
    while bounce_chunk(source_id=source_id, site=site, reason=reason, now=now):
        pass
    keep_facts(count_facts())
