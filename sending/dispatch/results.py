"""Make what came of deliveries durable: one transaction for a batch of results.

A message becomes final exactly once: only rows that were not final yet are changed, and only those
count in events and roll-ups, whatever is reported twice.
"""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from django.db import connection, transaction

from esp.lib.backoff import Schedule, next_attempt_at
from esp.lib.ids import new_id, to_public
from sending.audience.suppressions import SuppressionEntry, suppress_many
from sending.dispatch.claims import Job
from sending.dispatch.sites import site_of
from sending.engine.classify import suppresses
from sending.engine.ports import Outcome
from sending.events.models import EventKind
from sending.events.services import Fact, record_facts
from sending.messages.models import Message


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an outcome means for its message: its new status, and when it is tried again."""

    job: Job
    outcome: Outcome
    status: str
    site: str
    due_at: dt.datetime | None  # None: final
    reason: str  # why it waits, in words for people
    is_attempt: bool = True  # False: a limit of ours held it, nothing was tried

    @property
    def attempts(self) -> int:
        """How many attempts the message has had with this one."""
        return self.job.attempts + self.is_attempt

    @property
    def reply(self) -> str:
        """The reply or reason as it is shown, at most 500 characters."""
        return self.outcome.text[:500].replace("\x00", "")


# How long a message rests that a limit of ours held: at least as long as the limit says, and a
# little more, differently for each, so that they do not all come back at once.
_HELD_SECONDS = (0.5, 2.0)


def judge(job: Job, outcome: Outcome, schedule: Schedule) -> Verdict:
    """Decide what `outcome` means for the message of `job`."""
    site = site_of(outcome.mx_host, job.domain)
    if outcome.kind == "delivered":
        return Verdict(job, outcome, Message.Status.DELIVERED, site, None, "")
    if outcome.kind == "bounced":
        return Verdict(job, outcome, Message.Status.BOUNCED, site, None, "")
    if outcome.phase == "throttle":
        spread = random.uniform(*_HELD_SECONDS)  # noqa: S311 (spreads load)
        pause = dt.timedelta(seconds=max(outcome.retry_after_seconds or 0.0, 0.0) + spread)
        return Verdict(
            job, outcome, job.status, site, outcome.at + pause, outcome.text[:300], is_attempt=False
        )
    # The life of a scheduled message begins when it was due, not when it was accepted.
    began = job.expires_at - dt.timedelta(seconds=schedule.expires_after_seconds)
    due_at = next_attempt_at(job.attempts + 1, outcome.at, schedule, accepted_at=began)
    if due_at is None:
        return Verdict(job, outcome, Message.Status.EXPIRED, site, None, "")
    reason = f"{job.domain} asked to try again later: {outcome.text}"
    if outcome.smtp_code is None:
        reason = f"{job.domain} could not be reached: {outcome.text}"
    return Verdict(job, outcome, Message.Status.DEFERRED, site, due_at, reason[:300])


_INSERT_ATTEMPTS = """
INSERT INTO sending_attempt
    (id, tenant_id, message_id, at, number, outcome, phase, source_address, mx_host, mx_address,
     tls_version, smtp_code, reply, bounce_class, timings)
SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::timestamptz[], %s::int[], %s::text[],
                     %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::int[],
                     %s::text[], %s::text[], %s::jsonb[])
"""

_UPDATE_MESSAGES = """
UPDATE sending_message message
SET status = new.status, site = new.site, attempts = new.attempts,
    bounce_class = new.bounce_class, last_reply = new.reply, final_at = new.final_at
FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::int[], %s::text[], %s::text[],
            %s::timestamptz[])
     AS new(id, status, site, attempts, bounce_class, reply, final_at)
WHERE message.id = new.id AND message.status IN ('queued', 'deferred')
RETURNING message.id
"""

_DELETE_ENTRIES = "DELETE FROM sending_queueentry WHERE message_id = ANY(%s)"

# Only the lease's holder may put a message back: another worker may have it by now.
_PUT_BACK = """
UPDATE sending_queueentry entry
SET due_at = new.due_at, attempts = new.attempts, reason = new.reason, worker = ''
FROM unnest(%s::uuid[], %s::timestamptz[], %s::int[], %s::text[])
     AS new(id, due_at, attempts, reason)
WHERE entry.message_id = new.id AND entry.worker = %s
"""


def record(verdicts: Sequence[Verdict], *, worker: str) -> None:
    """Write `verdicts` of `worker`'s leases: attempts, states, events, queue, suppressions."""
    tried = [verdict for verdict in verdicts if verdict.is_attempt]
    with transaction.atomic():
        _update_queue(verdicts, worker)
        if not tried:
            return
        changed = _update_messages(tried)
        _insert_attempts(tried)
        counted = [verdict for verdict in tried if verdict.job.message_id in changed]
        record_facts([_fact(verdict) for verdict in counted])
        _suppress([verdict for verdict in counted if verdict.status == Message.Status.BOUNCED])


def _columns(rows: Sequence[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _update_messages(verdicts: Sequence[Verdict]) -> set[uuid.UUID]:
    rows = [
        (
            verdict.job.message_id,
            verdict.status,
            verdict.site,
            verdict.attempts,
            "" if verdict.status == Message.Status.DELIVERED else verdict.outcome.classification,
            verdict.reply,
            verdict.outcome.at if verdict.due_at is None else None,
        )
        for verdict in verdicts
    ]
    with connection.cursor() as cursor:
        cursor.execute(_UPDATE_MESSAGES, _columns(rows))
        return {row[0] for row in cursor.fetchall()}


def _insert_attempts(verdicts: Sequence[Verdict]) -> None:
    rows = [
        (
            new_id(),
            verdict.job.tenant_id,
            verdict.job.message_id,
            verdict.outcome.at,
            verdict.attempts,
            verdict.outcome.kind,
            verdict.outcome.phase,
            verdict.outcome.source_address or "",
            verdict.outcome.mx_host or "",
            verdict.outcome.mx_address or "",
            verdict.outcome.tls_version or "",
            verdict.outcome.smtp_code,
            verdict.reply,
            verdict.outcome.classification,
            orjson.dumps(dict(verdict.outcome.timings)).decode(),
        )
        for verdict in verdicts
    ]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT_ATTEMPTS, _columns(rows))


def _update_queue(verdicts: Sequence[Verdict], worker: str) -> None:
    final = [verdict.job.message_id for verdict in verdicts if verdict.due_at is None]
    waiting = [
        (verdict.job.message_id, verdict.due_at, verdict.attempts, verdict.reason)
        for verdict in verdicts
        if verdict.due_at is not None
    ]
    with connection.cursor() as cursor:
        if final:
            cursor.execute(_DELETE_ENTRIES, [final])
        if waiting:
            cursor.execute(_PUT_BACK, [*_columns(waiting), worker])


_KINDS = {
    Message.Status.DELIVERED: EventKind.DELIVERED,
    Message.Status.DEFERRED: EventKind.DEFERRED,
    Message.Status.BOUNCED: EventKind.BOUNCED,
    Message.Status.EXPIRED: EventKind.EXPIRED,
}


def _fact(verdict: Verdict) -> Fact:
    job, outcome = verdict.job, verdict.outcome
    detail: dict[str, object] = {"reply": verdict.reply, "attempt": verdict.attempts}
    if outcome.kind != "delivered":
        detail["class"] = outcome.classification
    if outcome.mx_host:
        detail["mx"] = outcome.mx_host
    return Fact(
        tenant_id=job.tenant_id,
        message_id=job.message_id,
        batch_id=job.batch_id,
        contact_id=job.contact_id,
        recipient=job.recipient,
        site=verdict.site,
        kind=_KINDS[Message.Status(verdict.status)],
        at=outcome.at,
        detail=detail,
    )


def _suppress(bounced: Sequence[Verdict]) -> None:
    suppress_many(
        [
            SuppressionEntry(
                tenant_id=verdict.job.tenant_id,
                email_norm=verdict.job.recipient,
                scope="all",
                reason="bounce",
                source=f"message {to_public(Message.PREFIX, verdict.job.message_id)}",
                detail=verdict.reply,
            )
            for verdict in bounced
            if suppresses(verdict.outcome.classification, enhanced=verdict.outcome.enhanced_code)
        ]
    )


def drop(jobs: Sequence[Job], *, now: dt.datetime) -> None:
    """End messages that must not be sent any more: suppressed, or the contact has left."""
    if not jobs:
        return
    rows = [
        (
            job.message_id,
            Message.Status.DROPPED,
            "",
            job.attempts,
            "block/suppressed",
            drop_reason(job),
            now,
        )
        for job in jobs
    ]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_UPDATE_MESSAGES, _columns(rows))
        changed = {row[0] for row in cursor.fetchall()}
        cursor.execute(_DELETE_ENTRIES, [[job.message_id for job in jobs]])
        record_facts(
            [
                Fact(
                    tenant_id=job.tenant_id,
                    message_id=job.message_id,
                    batch_id=job.batch_id,
                    contact_id=job.contact_id,
                    recipient=job.recipient,
                    kind=EventKind.DROPPED,
                    at=now,
                    detail={"reason": drop_reason(job)},
                )
                for job in jobs
                if job.message_id in changed
            ]
        )


def drop_reason(job: Job) -> str:
    """Return the sentence for people why the message is not sent."""
    if job.suppressed:
        return f"The address is suppressed ({job.suppressed})."
    return "The contact left the list before the message was sent."


_EXPIRE = """
WITH gone AS (
    DELETE FROM sending_queueentry WHERE message_id IN (
        SELECT message_id FROM sending_queueentry
        WHERE expires_at <= %(now)s AND (worker = '' OR due_at <= %(now)s)
        LIMIT 5000 FOR UPDATE SKIP LOCKED)
    RETURNING message_id
)
UPDATE sending_message message
SET status = 'expired', final_at = %(now)s,
    bounce_class = 'soft/expired',
    last_reply = CASE WHEN last_reply = '' THEN 'The message could not be sent in time.'
                      ELSE last_reply END
FROM gone WHERE message.id = gone.message_id AND message.status IN ('queued', 'deferred')
RETURNING message.id, message.tenant_id, message.batch_id, message.contact_id, message.recipient,
          message.site
"""


def expire_overdue(*, now: dt.datetime) -> int:
    """End messages whose life is over, in whatever state they wait; return how many.

    Paused batches and suspended tenants are not spared: mail that is days late harms more.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_EXPIRE, {"now": now})
        rows = cursor.fetchall()
        record_facts(
            [
                Fact(
                    tenant_id=tenant_id,
                    message_id=message_id,
                    batch_id=batch_id,
                    contact_id=contact_id,
                    recipient=recipient,
                    site=site,
                    kind=EventKind.EXPIRED,
                    at=now,
                    detail={"class": "soft/expired"},
                )
                for message_id, tenant_id, batch_id, contact_id, recipient, site in rows
            ]
        )
    return len(rows)
