"""Why what is left of a batch is waiting: what holds all of it, then groups by reason."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from django.db import connection
from django.utils import timezone

from sending.engine.classify import title
from sending.lanes.selectors import title_of
from sending.messages.causes import Cause, causes_of_all, lane_causes, own_cause
from sending.messages.finding import next_batch_keys
from sending.messages.models import Batch, Message, QueueEntry
from sending.messages.waiting import next_try

# How many waiting messages of a batch are looked at; the rest waits for the same few reasons.
SAMPLE = 20_000


@dataclass(frozen=True, slots=True)
class WaitGroup:
    """Messages of a batch that wait for the same reason, `is_sampled`: at least so many.

    `next_attempt_at` is when the first of them is tried, None while nobody knows; `is_too_late`:
    all of them are given up before.
    """

    count: int
    cause: Cause
    is_sampled: bool = False
    next_attempt_at: dt.datetime | None = None
    is_too_late: bool = False


class _Part(NamedTuple):
    """A row of `_GROUPS`; several of them may have the same cause."""

    number: int
    due_at: dt.datetime
    expires_at: dt.datetime


# The words between the domain and what happened are `dispatch.verdicts`' own.
_GROUPS = """
WITH waiting AS (
    SELECT CASE WHEN worker <> '' AND due_at > %(now)s THEN 'leased'
                WHEN worker <> '' THEN 'lease-ended'
                WHEN due_at <= %(now)s THEN 'next'
                WHEN hold <> '' THEN hold
                WHEN attempts = 0 THEN 'scheduled'
                WHEN position(' could not be reached: ' IN reason) > 0 THEN 'unreachable'
                ELSE 'receiver' END AS state,
           CASE WHEN site = '' THEN domain ELSE site END AS place, due_at, message_id, expires_at
    FROM sending_queueentry WHERE batch_id = %(batch)s LIMIT %(sample)s
)
SELECT state, CASE WHEN state IN ('leased', 'lease-ended', 'next', 'scheduled') THEN ''
                   ELSE place END AS place,
       count(*), min(due_at), max(expires_at), (array_agg(message_id ORDER BY due_at))[1]
FROM waiting GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 12
"""
_PLAIN = {
    "leased": "Being handed over right now.",
    "next": "Due, and waiting for their turn.",
    "lease-ended": "The worker that had them stopped before it could say what came of them. "
    "Another takes them over, under the same Message-ID.",
    "scheduled": "Scheduled by the sender.",
}


def waits_of(batch: Batch, *, now: dt.datetime | None = None) -> list[WaitGroup]:
    """Return why what is left of `batch` waits: what holds all of it, then groups by reason.

    At most 20,000 waiting messages are looked at; a group's sentence is that of the one of them
    that is tried next.
    """
    now = now or timezone.now()
    with connection.cursor() as cursor:
        cursor.execute(_GROUPS, {"batch": batch.pk, "now": now, "sample": SAMPLE})
        rows = cursor.fetchall()
    total = sum(row[2] for row in rows)
    if not total:
        return []
    is_sampled = total >= SAMPLE
    everywhere = tuple(_batch_causes(batch, now))
    groups = [WaitGroup(total, cause, is_sampled, next_try((cause,), now)) for cause in everywhere]
    by_cause: dict[Cause, list[_Part]] = {}
    said = {"next"} if everywhere else set()  # no reason where all of it is held
    if any(cause.code == "no-source" for cause in everywhere):
        said.add("node")
    for state, place, count, due_at, expires_at, example in rows:
        if state in said:
            continue
        cause = _group_cause(state, place, example, now)
        by_cause.setdefault(cause, []).append(_Part(count, due_at, expires_at))
    for cause, parts in by_cause.items():
        first = max(now, min(part.due_at for part in parts))
        at = None if cause.code == "leased" else next_try((*everywhere, cause), first)
        is_late = at is not None and at > max(now, *(part.expires_at for part in parts))
        count = sum(part.number for part in parts)
        groups.append(WaitGroup(count, cause, is_sampled, None if is_late else at, is_late))
    return groups


def _batch_causes(batch: Batch, now: dt.datetime) -> Iterator[Cause]:
    keys = next_batch_keys(batch.pk, limit=1)
    first = Message.objects.filter(pk__in=keys).only("content_id", "tenant_id").first()
    example = first or Message(tenant_id=batch.tenant_id)
    example.batch_id, example.stream = batch.pk, batch.stream
    for cause in causes_of_all(example, batch, now):
        if cause.code == "paused":
            yield Cause("paused", "Sending is paused; it goes on when it is resumed.")
        else:
            yield cause


def _group_cause(state: str, place: str, example: uuid.UUID, now: dt.datetime) -> Cause:
    if state in _PLAIN:
        return Cause(state, _PLAIN[state])
    entry = QueueEntry.objects.filter(message_id=example).first()
    message = Message.objects.filter(pk=example).first()
    if entry is None or message is None:
        return Cause("next", "They have just gone on.")
    if entry.worker:
        return Cause("leased", _PLAIN["leased"])
    if entry.hold in ("paused", "suspended"):
        for shut in lane_causes(entry.source_id, entry.site, now):
            return shut
    cause = own_cause(message, entry, now)
    if cause.code not in ("receiver", "unreachable"):
        return cause
    named = title(message.bounce_class) if message.bounce_class else ""
    text = f"{title_of(place)}: {named or 'try again later'}. For example: {cause.text}"
    return Cause(cause.code, text[:400])
