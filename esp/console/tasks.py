"""The console's jobs."""

from __future__ import annotations

from celery import shared_task

from esp.console import jobs
from esp.console.queue_facts import count_facts, keep_facts


@shared_task(name=jobs.COUNT_QUEUE)
def count_queue() -> None:
    """Count the queue and the lanes for pages and metrics; the web's role sees no other tenants."""
    keep_facts(count_facts())
