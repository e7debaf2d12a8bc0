"""Why a message, or the rest of a batch, is waiting: every cause by name, the strongest first."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from django.db import connection
from django.db.models import Q
from django.utils import timezone

from deliverability.holds.models import SendingHold
from deliverability.ips.selectors import why_no_source
from sending.engine.classify import explain, title
from sending.lanes.models import LaneState
from sending.messages.models import Batch, Message, MessageContent, QueueEntry
from tenants.directory.models import Tenant

# How many waiting messages of a batch are looked at; the rest waits for the same few reasons.
SAMPLE = 20_000


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that holds mail: a code for machines, a sentence for people, an end if known."""

    code: str
    text: str
    until: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a message waits. Any of `causes` alone would hold it; the strongest comes first."""

    causes: tuple[Cause, ...]
    next_attempt_at: dt.datetime | None
    expires_at: dt.datetime
    attempts: int
    last_reply: str
    site: str

    @property
    def sentence(self) -> str:
        """The strongest cause and what comes next, for people."""
        cause = self.causes[0]
        text = cause.text
        if cause.until is not None:
            return f"{text} This ends at {moment(cause.until)}."
        if self.next_attempt_at is not None and cause.code in _TIMED:
            return f"{text} The next attempt is at {moment(self.next_attempt_at)}."
        return text


@dataclass(frozen=True, slots=True)
class WaitGroup:
    """Messages of a batch that wait for the same reason, `is_sampled`: at least so many."""

    count: int
    cause: Cause
    is_sampled: bool = False


# Causes that end with the message's next attempt.
_TIMED = {"receiver", "unreachable", "limit", "scheduled"}


def moment(at: dt.datetime) -> str:
    """Return a moment as explanations write it."""
    return at.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def wait_of(
    message: Message,
    entry: QueueEntry | None,
    batch: Batch | None,
    *,
    now: dt.datetime | None = None,
) -> Wait | None:
    """Return why `message` of the tenant in scope waits; None when it does not.

    A message that is not final and has no queue entry has just been delivered or lost its place;
    the check of the queue tells which (`manage.py check_queue`).
    """
    if message.status in Message.FINAL:
        return None
    now = now or timezone.now()
    causes = tuple(_causes(message, entry, batch, now))
    return Wait(
        causes=causes,
        next_attempt_at=_next_attempt(entry, now),
        expires_at=message.expires_at,
        attempts=message.attempts,
        last_reply=message.last_reply,
        site=(entry.site if entry else "") or message.site,
    )


def _next_attempt(entry: QueueEntry | None, now: dt.datetime) -> dt.datetime | None:
    if entry is None or (entry.worker and entry.due_at > now):
        return None
    return max(entry.due_at, now)


def _causes(
    message: Message, entry: QueueEntry | None, batch: Batch | None, now: dt.datetime
) -> Iterator[Cause]:
    if entry is None:
        yield Cause("result", "A result has just come in.")
        return
    if entry.worker and entry.due_at > now:
        yield Cause("leased", "The message is being handed over right now.")
        return
    yield from _tenant_causes(message, batch, now)
    if batch is not None and batch.status == Batch.Status.PAUSED:
        yield Cause("paused", "Sending is paused; the message leaves when it is resumed.")
    yield from _source_causes(message)
    yield from _lane_causes(entry.source_id, entry.site, now)
    yield _own_cause(message, entry, now)


def _tenant_causes(message: Message, batch: Batch | None, now: dt.datetime) -> Iterator[Cause]:
    tenant = Tenant.objects.filter(pk=message.tenant_id).first()
    if tenant is not None and not tenant.is_active:
        why = f" Reason: {tenant.suspended_reason}" if tenant.suspended_reason else ""
        yield Cause("tenant-suspended", f"The workspace is suspended; no mail leaves.{why}")
    for hold in open_holds(message.stream, message.batch_id, now):
        what = "This campaign" if hold.batch_ref else "The workspace’s sending"
        if hold.batch_ref and batch is not None and batch.kind == Batch.Kind.API:
            what = "This stream"
        yield Cause("held", f"{what} is held: {hold.reason}", hold.until)


def open_holds(stream: str, batch_id: uuid.UUID, now: dt.datetime) -> list[SendingHold]:
    """Return the holds on a batch of the tenant in scope, or on the whole tenant."""
    return list(
        SendingHold.objects.filter(
            Q(until=None) | Q(until__gt=now),
            Q(batch_ref=None) | Q(batch_ref=batch_id),
            stream__in=["", stream],
            lifted_at=None,
        ).order_by("created_at")
    )


def _source_causes(message: Message) -> Iterator[Cause]:
    domain_id = (
        MessageContent.objects.filter(pk=message.content_id)
        .values_list("domain_id", flat=True)
        .first()
    )
    text = why_no_source(message.tenant_id, message.stream, domain_id)
    if text:
        yield Cause("no-source", text)


def _lane_causes(source_id: str, site: str, now: dt.datetime) -> Iterator[Cause]:
    """Yield what closes the lane that held the message last; another may be open by then."""
    if not site:
        return
    lane = LaneState.objects.filter(source_id=source_id, site=site).first()
    if lane is None:
        return
    if lane.is_paused:
        why = f": {lane.paused_reason}" if lane.paused_reason else "."
        yield Cause("lane-paused", f"An operator has paused delivery to {site}{why}")
    if lane.suspended_until is not None and lane.suspended_until > now:
        why = lane.suspended_reason or f"Delivery to {site} is suspended."
        yield Cause("lane-suspended", why, lane.suspended_until)


def _own_cause(message: Message, entry: QueueEntry, now: dt.datetime) -> Cause:
    """Return what the queue says of this message itself; there is always something."""
    reason = entry.reason.strip()
    text = reason if not reason or reason.endswith((".", "!", "?")) else f"{reason}."
    if entry.due_at <= now:
        if message.stream == "broadcast":
            return Cause("next", "The message is due and waits for its turn among the others.")
        return Cause("next", "The message is next in line.")
    if entry.hold:
        return Cause("limit", text or "A limit to this receiver is used up.")
    if message.attempts == 0:
        return Cause("scheduled", f"Scheduled: the message leaves at {moment(entry.due_at)}.")
    if message.bounce_class == "soft/network-error":
        return Cause("unreachable", text or f"{entry.domain} could not be reached.")
    return Cause("receiver", text or explain(message.bounce_class))


_FINAL_TEXTS = {
    Message.Status.DELIVERED: "The receiving server took the message.",
    Message.Status.CANCELLED: "The batch was cancelled before this message was sent.",
}


def explanation_of(message: Message, entry: QueueEntry | None, batch: Batch | None) -> str:
    """Return one or two sentences: what state the message is in, why, and what comes next."""
    status = Message.Status(message.status)
    if message.bounced_late_at is not None:
        return "The receiving server took the message and sent it back later. " + explain(
            message.bounce_class
        )
    if status in _FINAL_TEXTS:
        return _FINAL_TEXTS[status]
    if status == Message.Status.DROPPED:
        return message.last_reply or "The message was not sent."
    if status == Message.Status.BOUNCED:
        return explain(message.bounce_class)
    if status == Message.Status.EXPIRED:
        reply = f" The last answer was: {message.last_reply}" if message.last_reply else ""
        return "The message could not be delivered in its time and was given up." + reply
    wait = wait_of(message, entry, batch)
    return wait.sentence if wait is not None else ""


# --- a batch ---

_GROUPS = """
WITH waiting AS (
    SELECT hold, site, source_id, worker <> '' AND due_at > %(now)s AS is_leased,
           due_at <= %(now)s AS is_due, due_at, message_id, attempts
    FROM sending_queueentry WHERE batch_id = %(batch)s LIMIT %(sample)s
)
SELECT CASE WHEN is_leased THEN 'leased' WHEN hold <> '' THEN 'limit' WHEN is_due THEN 'next'
            WHEN attempts = 0 THEN 'scheduled' ELSE 'receiver' END AS code,
       CASE WHEN is_leased OR is_due AND hold = '' THEN '' ELSE site END AS site,
       count(*), min(due_at), (array_agg(message_id))[1]
FROM waiting GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 12
"""


def waits_of(batch: Batch, *, now: dt.datetime | None = None) -> list[WaitGroup]:
    """Return why what is left of `batch` waits: what holds all of it, then groups by reason.

    At most 20,000 waiting messages are looked at; a group's sentence is that of one of them.
    """
    now = now or timezone.now()
    with connection.cursor() as cursor:
        cursor.execute(_GROUPS, {"batch": batch.pk, "now": now, "sample": SAMPLE})
        rows = cursor.fetchall()
    total = sum(row[2] for row in rows)
    if not total:
        return []
    is_sampled = total >= SAMPLE
    groups = [WaitGroup(total, cause, is_sampled) for cause in _batch_causes(batch, now)]
    for code, site, count, due_at, example in rows:
        cause = _group_cause(code, site, due_at, example)
        groups.append(WaitGroup(count, cause, is_sampled))
    return groups


def _batch_causes(batch: Batch, now: dt.datetime) -> Iterator[Cause]:
    example = Message(tenant_id=batch.tenant_id, batch_id=batch.pk, stream=batch.stream)
    yield from _tenant_causes(example, batch, now)
    if batch.status == Batch.Status.PAUSED:
        yield Cause("paused", "Sending is paused.")
    first = Message.objects.filter(batch_id=batch.pk).only("content_id", "tenant_id").first()
    if first is not None:
        first.stream = batch.stream
        yield from _source_causes(first)


def _group_cause(code: str, site: str, due_at: dt.datetime, example: uuid.UUID) -> Cause:
    if code == "leased":
        return Cause(code, "Being handed over right now.")
    if code == "next":
        return Cause(code, "Due, and waiting for their turn.")
    if code == "scheduled":
        return Cause(code, "Scheduled by the sender.", due_at)
    entry = QueueEntry.objects.filter(message_id=example).first()
    reason = entry.reason if entry is not None and entry.reason else ""
    if code == "limit":
        return Cause(code, reason or f"A limit to {site} is used up.")
    message = Message.objects.filter(pk=example).only("bounce_class").first()
    named = title(message.bounce_class) if message is not None and message.bounce_class else ""
    where = site or (entry.domain if entry is not None else "the receiver")
    return Cause(code, f"{where}: {named or 'try again later'}. For example: {reason}"[:400])
