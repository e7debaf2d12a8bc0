"""The messages room's tasks: sweeps, and mail that other rooms ask for by name."""

from __future__ import annotations

from celery import shared_task

from sending.messages import jobs
from sending.messages.idempotency import purge_old_keys
from sending.messages.services import clear_cancelled as clear_cancelled_batches


@shared_task(name=jobs.CLEAR_CANCELLED)
def clear_cancelled() -> None:
    """Take the messages of cancelled batches off the queue."""
    clear_cancelled_batches()


@shared_task(name=jobs.PURGE_IDEMPOTENCY)
def purge_idempotency() -> None:
    """Remove idempotency keys whose 24 hours are over."""
    purge_old_keys()
