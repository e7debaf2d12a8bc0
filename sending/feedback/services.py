"""Store incoming mail, and turn it into events and suppressions."""

from __future__ import annotations

import datetime as dt
import logging
import time
import uuid
from collections.abc import Sequence

from django.db import OperationalError, transaction
from django.db.models import F, Q
from django.utils import timezone

from esp.lib.ids import lower_bound
from sending.engine.replies import clean
from sending.feedback.addresses import find_inbox
from sending.feedback.handling import handle
from sending.feedback.models import InboundMail
from sending.feedback.parse import parse_mail

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 5
KEEP_DAYS = 30
# A wake-up does the work at once; the sweep finds what is left, later with every failure.
_RETRY_SECONDS = [5 * 4**attempts for attempts in range(MAX_ATTEMPTS)]
_SWEEP_SECONDS = 4.0


def store_mail(*, mail_from: str, recipients: Sequence[str], raw: bytes) -> list[uuid.UUID]:
    """Keep a mail, a row for each of its recipients, committed on return; return the rows' ids.

    Raises django.db.Error when the database does not take it.
    """
    rows = [
        InboundMail(mail_from=clean(mail_from)[:320], rcpt_to=clean(recipient)[:320], raw=raw)
        for recipient in recipients
    ]
    with transaction.atomic():
        InboundMail.objects.bulk_create(rows)
    return [row.pk for row in rows]


def process_inbound(inbound_id: uuid.UUID) -> None:
    """Do what a stored mail asks for, once: all in one transaction with the mail's own status.

    A mail that cannot be worked is tried again by the sweep, and marked failed after five times.
    """
    try:
        with transaction.atomic():
            _work(inbound_id)
    except OperationalError:  # the database is away: says nothing about the mail
        raise
    except Exception as error:
        log.exception("incoming mail %s could not be worked", inbound_id)
        _note_failure(inbound_id, error)


def _work(inbound_id: uuid.UUID) -> None:
    rows = InboundMail.objects.select_for_update(skip_locked=True)
    mail = rows.filter(pk=inbound_id, status=InboundMail.Status.NEW).first()
    if mail is None:  # done already, or at work elsewhere
        return
    inbox = find_inbox(mail.rcpt_to)
    parsed = parse_mail(bytes(mail.raw))
    result = handle(inbox, parsed)
    mail.status = InboundMail.Status.DONE if result.is_done else InboundMail.Status.IGNORED
    mail.kind = result.kind
    mail.message_id = result.message_id
    mail.problem = result.reason[:300]
    mail.save(update_fields=["status", "kind", "message_id", "problem"])


def _note_failure(inbound_id: uuid.UUID, error: Exception) -> None:
    problem = clean(f"{type(error).__name__}: {error}")[:300]
    rows = InboundMail.objects.filter(pk=inbound_id, status=InboundMail.Status.NEW)
    rows.update(attempts=F("attempts") + 1, problem=problem)
    rows.filter(attempts__gte=MAX_ATTEMPTS).update(status=InboundMail.Status.FAILED)


def mails_due(now: dt.datetime, *, limit: int = 500) -> list[uuid.UUID]:
    """Return stored mails whose wake-up was lost or whose work failed, oldest first."""
    waited = Q()
    for attempts, seconds in enumerate(_RETRY_SECONDS):
        waited |= Q(attempts=attempts, received_at__lte=now - dt.timedelta(seconds=seconds))
    rows = InboundMail.objects.filter(waited, status=InboundMail.Status.NEW)
    return list(rows.order_by("id").values_list("id", flat=True)[:limit])


def sweep_inbound() -> int:
    """Work the mails that wait, for some seconds; return how many were taken up."""
    end = time.monotonic() + _SWEEP_SECONDS
    done = 0
    for inbound_id in mails_due(timezone.now()):
        process_inbound(inbound_id)
        done += 1
        if time.monotonic() > end:
            break
    return done


def purge_inbound(*, now: dt.datetime) -> int:
    """Forget mails older than 30 days: they hold what people wrote. Returns how many."""
    oldest = lower_bound(now - dt.timedelta(days=KEEP_DAYS))
    removed = 0
    while True:
        ids = InboundMail.objects.filter(pk__lt=oldest).values_list("pk", flat=True)[:1000]
        count, _ = InboundMail.objects.filter(pk__in=list(ids)).delete()
        removed += count
        if not count:
            return removed
