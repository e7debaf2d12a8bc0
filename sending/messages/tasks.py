"""The messages room's tasks: sweeps, and mail that other rooms ask for by name."""

from __future__ import annotations

import logging
import uuid
from typing import Any

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from deliverability.alerts.services import settle_alert
from esp.lib.errors import DomainError
from sending.messages import jobs
from sending.messages.backpressure import why_full
from sending.messages.confirmation import send_confirmation as queue_confirmation
from sending.messages.idempotency import purge_old_keys
from sending.messages.models import Stream
from sending.messages.retention import forget_old_messages
from sending.messages.services import clear_cancelled as clear_cancelled_batches

log = logging.getLogger(__name__)


@shared_task(name=jobs.SEND_CONFIRMATION, bind=True)
def send_confirmation(self: Any, tenant_id: str, subscription_id: str, form_id: str) -> None:
    """Queue the mail that asks to confirm a subscription; once, however often this task runs."""
    try:
        queue_confirmation(
            tenant_id=uuid.UUID(tenant_id),
            subscription_id=uuid.UUID(subscription_id),
            form_id=uuid.UUID(form_id),
            key=f"confirmation-{self.request.id}",
        )
    except DomainError as error:
        log.warning("the confirmation of %s was not queued: %s", subscription_id, error.message)


@shared_task(name=jobs.CLEAR_CANCELLED)
def clear_cancelled() -> None:
    """Take the messages of cancelled batches off the queue."""
    clear_cancelled_batches()


@shared_task(name=jobs.PURGE_IDEMPOTENCY)
def purge_idempotency() -> None:
    """Remove idempotency keys whose 24 hours are over."""
    purge_old_keys()


@shared_task(name=jobs.FORGET_OLD)
def forget_old() -> None:
    """Drop the months that are past `MESSAGE_RETENTION_DAYS`."""
    forget_old_messages(now=timezone.now(), keep_days=settings.MESSAGE_RETENTION_DAYS)


@shared_task(name=jobs.WATCH_QUEUE)
def watch_queue() -> None:
    """Tell operators while the queue is so long that mail is refused."""
    why = why_full(Stream.BROADCAST)
    settle_alert(
        is_on=bool(why),
        code="queue-full",
        severity="critical",
        title="The sending queue is full: the API refuses broadcast mail",
        detail=f"{why} See which lanes hold the mail; add workers or source IPs, or raise "
        "QUEUE_LIMIT when the database has room.",
    )
