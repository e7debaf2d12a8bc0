"""The console's jobs."""

from __future__ import annotations

import time

from celery import shared_task
from django.utils import timezone

from esp.console import jobs
from esp.console.lane_queue import bounce_chunk, requeue_chunk, waiting_in
from esp.console.queue_facts import count_facts, keep_facts
from esp.kit.jobs import enqueue_now

# How long one run works at a lane before the next goes on: a lane with millions in it must neither
# keep a worker from other jobs nor outlive a deploy.
RUN_SECONDS = 20.0


@shared_task(name=jobs.COUNT_QUEUE)
def count_queue() -> None:
    """Count the queue and the lanes for pages and metrics; the web's role sees no other tenants."""
    keep_facts(count_facts())


@shared_task(name=jobs.REQUEUE_LANE)
def requeue_lane(source_id: str, site: str, left: int | None = None) -> None:
    """Make what waits in a lane due now; doing it twice changes nothing.

    `left` is how many the run before has left over. No more are made due than waited at first:
    those that are refused meanwhile wait their time.
    """
    now = timezone.now()
    if left is None:
        left = waiting_in(source_id=source_id, site=site, now=now)
    ends = time.monotonic() + RUN_SECONDS
    while left > 0 and (done := requeue_chunk(source_id=source_id, site=site, now=now)):
        left -= done
        if left > 0 and time.monotonic() >= ends:
            enqueue_now(jobs.REQUEUE_LANE, source_id, site, left)
            return
    keep_facts(count_facts())


@shared_task(name=jobs.BOUNCE_LANE)
def bounce_lane(source_id: str, site: str, reason: str) -> None:
    """End what waits in a lane; doing it twice ends what has come since."""
    now = timezone.now()
    ends = time.monotonic() + RUN_SECONDS
    while bounce_chunk(source_id=source_id, site=site, reason=reason, now=now):
        if time.monotonic() >= ends:
            enqueue_now(jobs.BOUNCE_LANE, source_id, site, reason)
            return
    keep_facts(count_facts())
