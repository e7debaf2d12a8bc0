"""Make what came of deliveries durable: one statement for a batch of results.

A message becomes final exactly once: only rows that were not final yet are changed, and only those
count in events and roll-ups, whatever is reported twice.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import orjson
from django.db import connection, transaction

from esp.kit.arrays import bools, ints, jsonbs, new_uuids, raw_cursor, texts, times, uuids
from esp.lib.ids import to_public
from sending.audience.suppressions import SuppressionEntry, suppress_many
from sending.dispatch.claims import Job
from sending.dispatch.verdicts import Verdict, judge
from sending.engine.classify import suppresses
from sending.events.models import EventKind
from sending.events.services import Fact, record_facts
from sending.messages.models import Message, Stream
from sending.messages.queue import schedule_for

__all__ = ["Verdict", "drop", "drop_reason", "expire", "expire_overdue", "judge", "record"]

# What is still to be ended of a message. Nearly all of the log is final: asked by `IN`, the planner
# expects a row or two of a thousand and joins the results by going through all of them for each
# (ten times the time). Of a CASE it knows nothing, and takes half.
_IS_OPEN = """
      CASE message.status WHEN 'queued' THEN true WHEN 'deferred' THEN true ELSE false END
"""

# Everything in one round trip. An event's kind is the message's new status; the cells of the
# roll-up are written in the order that everyone writes them in (`events.services.add_counts`).
_RECORD = f"""
WITH result AS MATERIALIZED (
    SELECT * FROM unnest(
        %(ids)s, %(tenants)s, %(attempts)s, %(events)s, %(ats)s, %(statuses)s, %(sites)s,
        %(numbers)s, %(classes)s, %(replies)s, %(finals)s, %(outcomes)s, %(phases)s, %(sources)s,
        %(routes)s, %(lane_sites)s, %(hosts)s, %(addresses)s, %(tls)s, %(codes)s, %(ambiguous)s,
        %(timings)s, %(details)s
    ) AS result (
        id, tenant_id, attempt_id, event_id, at, status, site, number, class, reply, final_at,
        outcome, phase, source_address, route, lane_site, mx_host, mx_address, tls_version,
        smtp_code, is_ambiguous, timings, detail)
), gone AS (
    DELETE FROM sending_queueentry WHERE message_id = ANY(%(final_ids)s)
), changed AS (
    UPDATE sending_message message
    SET status = result.status, site = result.site, attempts = result.number,
        bounce_class = CASE WHEN result.status = 'delivered' THEN '' ELSE result.class END,
        last_reply = result.reply, final_at = result.final_at
    FROM result
    WHERE message.id = ANY(%(ids)s) AND message.id = result.id
      AND {_IS_OPEN}
    RETURNING message.id, message.tenant_id, message.batch_id, message.contact_id,
              message.recipient, result.event_id, result.at, result.status, result.site,
              result.detail,
              CASE WHEN result.outcome = 'delivered' THEN '' ELSE result.class END AS class
), tried AS (
    INSERT INTO sending_attempt
        (id, tenant_id, message_id, at, number, outcome, phase, source_address, route, site,
         mx_host, mx_address, tls_version, smtp_code, is_ambiguous, reply, bounce_class, timings)
    SELECT attempt_id, tenant_id, id, at, number, outcome, phase, source_address, route, lane_site,
           mx_host, mx_address, tls_version, smtp_code, is_ambiguous, reply, class, timings
    FROM result
), logged AS (
    INSERT INTO sending_event
        (id, tenant_id, kind, at, message_id, batch_id, contact_id, recipient, site, is_machine,
         detail)
    SELECT event_id, tenant_id, status, at, id, batch_id, contact_id, recipient, site, false, detail
    FROM changed
), counted AS (
    INSERT INTO sending_statbucket
        (id, tenant_id, batch_id, hour, site, kind, detail, count)
    SELECT gen_random_uuid(), tenant_id, batch_id, date_trunc('hour', at, 'UTC'), site, status,
           class, count(*)
    FROM changed
    GROUP BY tenant_id, batch_id, date_trunc('hour', at, 'UTC'), site, status, class
    ORDER BY batch_id, date_trunc('hour', at, 'UTC'), site COLLATE "C", status COLLATE "C",
             class COLLATE "C"
    ON CONFLICT (batch_id, hour, site, kind, detail)
    DO UPDATE SET count = sending_statbucket.count + EXCLUDED.count
)
SELECT id FROM changed
"""  # noqa: S608 (a constant)

# Only the lease's holder may put a message back: another worker may have it by now.
_PUT_BACK = """
UPDATE sending_queueentry entry
SET due_at = new.due_at, attempts = new.attempts, reason = new.reason, hold = new.hold,
    site = new.site, source_id = new.source_id, passed_to = new.passed_to, worker = ''
FROM unnest(%(ids)s, %(dues)s, %(attempts)s, %(reasons)s, %(holds)s, %(sites)s, %(sources)s,
            %(passed)s)
     AS new (id, due_at, attempts, reason, hold, site, source_id, passed_to)
WHERE entry.message_id = ANY(%(ids)s) AND entry.message_id = new.id
      AND CASE entry.worker WHEN %(worker)s THEN true ELSE false END
"""


def record(verdicts: Sequence[Verdict], *, worker: str) -> None:
    """Write `verdicts` of `worker`'s leases: attempts, states, events, queue, suppressions."""
    waiting = [verdict for verdict in verdicts if verdict.due_at is not None]
    tried = [verdict for verdict in verdicts if verdict.is_attempt]
    with transaction.atomic(), connection.wrap_database_errors:
        if waiting:
            _put_back(waiting, worker)
        if tried:
            rows = _record_attempts(tried)
            bounced = [one for one in tried if one.status == Message.Status.BOUNCED]
            if bounced:
                changed = {row[0] for row in rows}
                _suppress([one for one in bounced if one.job.message_id in changed])


def _put_back(verdicts: Sequence[Verdict], worker: str) -> None:
    raw_cursor().execute(
        _PUT_BACK,
        {
            "ids": uuids(one.job.message_id for one in verdicts),
            "dues": times(one.due_at for one in verdicts),
            "attempts": ints(one.attempts for one in verdicts),
            "reasons": texts(one.reason for one in verdicts),
            "holds": texts(one.outcome.hold[:16] for one in verdicts),
            "sites": texts(one.lane_site for one in verdicts),
            "sources": texts(one.lane_source for one in verdicts),
            "passed": texts(one.passed_to for one in verdicts),
            "worker": worker,
        },
    )


def _record_attempts(verdicts: Sequence[Verdict]) -> list[tuple[Any, ...]]:
    """Write what was tried; return a row, the id, for each message that was not final before."""
    jobs = [one.job for one in verdicts]
    outcomes = [one.outcome for one in verdicts]
    replies = [one.reply for one in verdicts]
    ids = uuids(job.message_id for job in jobs)
    finals = [one.job.message_id for one in verdicts if one.due_at is None]
    cursor = raw_cursor().execute(
        _RECORD,
        {
            "ids": ids,
            "tenants": uuids(job.tenant_id for job in jobs),
            "attempts": new_uuids(len(verdicts)),
            "events": new_uuids(len(verdicts)),
            "ats": times(outcome.at for outcome in outcomes),
            "statuses": texts(one.status for one in verdicts),
            "sites": texts(one.site for one in verdicts),
            "numbers": ints(one.attempts for one in verdicts),
            "classes": texts(outcome.classification[:40] for outcome in outcomes),
            "replies": texts(replies),
            "finals": times(one.outcome.at if one.due_at is None else None for one in verdicts),
            "outcomes": texts(outcome.kind for outcome in outcomes),
            "phases": texts(outcome.phase for outcome in outcomes),
            "sources": texts(outcome.source_address or "" for outcome in outcomes),
            "routes": texts(outcome.route[:60] for outcome in outcomes),
            "lane_sites": texts(one.lane_site for one in verdicts),
            "hosts": texts(outcome.mx_host or "" for outcome in outcomes),
            "addresses": texts(outcome.mx_address or "" for outcome in outcomes),
            "tls": texts((outcome.tls_version or "")[:12] for outcome in outcomes),
            "codes": ints(outcome.smtp_code for outcome in outcomes),
            "ambiguous": bools(outcome.is_ambiguous for outcome in outcomes),
            "timings": jsonbs(_timings(one) for one in verdicts),
            "details": jsonbs(map(_detail, verdicts, replies)),
            "final_ids": ids if len(finals) == len(jobs) else uuids(finals),
        },
    )
    return cursor.fetchall()


def _timings(verdict: Verdict) -> bytes:
    """Return the seconds by phase, to a tenth of a millisecond."""
    return orjson.dumps({name: round(value, 4) for name, value in verdict.outcome.timings.items()})


def _detail(verdict: Verdict, reply: str) -> bytes:
    """Return what the event says beside its columns."""
    outcome = verdict.outcome
    detail: dict[str, object] = {"reply": reply, "attempt": verdict.attempts}
    if outcome.kind != "delivered":
        detail["class"] = outcome.classification
    if outcome.mx_host:
        detail["mx"] = outcome.mx_host
    return orjson.dumps(detail)


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


_END = f"""
WITH gone AS (
    DELETE FROM sending_queueentry WHERE message_id = ANY(%(ids)s)
)
UPDATE sending_message message
SET status = %(status)s, bounce_class = %(class)s, final_at = %(now)s,
    last_reply = CASE WHEN new.reply = '' THEN last_reply ELSE new.reply END
FROM unnest(%(ids)s, %(replies)s) AS new (id, reply)
WHERE message.id = ANY(%(ids)s) AND message.id = new.id
  AND {_IS_OPEN}
RETURNING message.id
"""  # noqa: S608 (a constant)


def drop(jobs: Sequence[Job], *, now: dt.datetime) -> None:
    """End messages that must not be sent any more: suppressed, or the contact has left."""
    reasons = [drop_reason(job) for job in jobs]
    _end(jobs, EventKind.DROPPED, "block/suppressed", reasons, now=now)


def drop_reason(job: Job) -> str:
    """Return the sentence for people why the message is not sent."""
    if job.suppressed:
        return f"The address is suppressed ({job.suppressed})."
    return "The contact left the list before the message was sent."


def expire(jobs: Sequence[Job], *, now: dt.datetime) -> None:
    """End leased messages whose life is over; what the last server said stays with them."""
    replies = ["" if job.attempts else _TOO_LATE for job in jobs]
    _end(jobs, EventKind.EXPIRED, "soft/expired", replies, now=now)


_TOO_LATE = "The message could not be sent in time."


def _end(
    jobs: Sequence[Job], kind: EventKind, classification: str, replies: Sequence[str], *,
    now: dt.datetime,
) -> None:  # fmt: skip
    if not jobs:
        return
    with transaction.atomic(), connection.wrap_database_errors:
        cursor = raw_cursor().execute(
            _END,
            {
                "ids": uuids(job.message_id for job in jobs),
                "replies": texts(replies),
                "status": kind.value,
                "class": classification,
                "now": now,
            },
        )
        changed = {row[0] for row in cursor.fetchall()}
        is_drop = kind == EventKind.DROPPED
        record_facts(
            [
                Fact(
                    tenant_id=job.tenant_id,
                    message_id=job.message_id,
                    batch_id=job.batch_id,
                    contact_id=job.contact_id,
                    recipient=job.recipient,
                    kind=kind,
                    at=now,
                    detail={"reason": reply} if is_drop else {"class": classification},
                )
                for job, reply in zip(jobs, replies, strict=True)
                if job.message_id in changed
            ]
        )


# A message that is over is due, too: a retry is never set past the end of its life. So the queue's
# one index finds it. A campaign younger than the shortest life holds none, however long its queue.
_EXPIRE = """
WITH old AS (
    SELECT id FROM sending_batch
    WHERE status <> 'done' AND (kind = 'api' OR created_at <= %(born)s)
), found AS (
    SELECT entry.message_id
    FROM old CROSS JOIN LATERAL (
        SELECT message_id FROM sending_queueentry
        WHERE batch_id = old.id AND due_at <= %(now)s AND expires_at <= %(now)s
        LIMIT %(most)s FOR UPDATE SKIP LOCKED
    ) entry
    LIMIT %(most)s
), gone AS (
    DELETE FROM sending_queueentry WHERE message_id = ANY(ARRAY(SELECT message_id FROM found))
    RETURNING message_id
)
UPDATE sending_message message
SET status = 'expired', final_at = %(now)s,
    bounce_class = 'soft/expired',
    last_reply = CASE WHEN last_reply = '' THEN %(text)s ELSE last_reply END
FROM gone WHERE message.id = gone.message_id AND message.status IN ('queued', 'deferred')
RETURNING message.id, message.tenant_id, message.batch_id, message.contact_id, message.recipient,
          message.site
"""


def expire_overdue(*, now: dt.datetime, most: int = 5000) -> int:
    """End messages whose life is over, in whatever state they wait; return how many.

    Paused batches and suspended tenants are not spared: mail that is days late harms more.
    """
    life = dt.timedelta(seconds=schedule_for(Stream.BROADCAST).expires_after_seconds)
    params: dict[str, Any] = {"now": now, "born": now - life, "most": most, "text": _TOO_LATE}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_EXPIRE, params)
        rows = cursor.fetchall()
        record_ends(rows, EventKind.EXPIRED, {"class": "soft/expired"}, now=now)
    return len(rows)


def record_ends(
    rows: Sequence[tuple[Any, ...]], kind: EventKind, detail: dict[str, str], *, now: dt.datetime
) -> None:
    """Record that messages have ended; `rows` are their keys as `_EXPIRE` returns them."""
    record_facts(
        [
            Fact(
                tenant_id=tenant_id,
                message_id=message_id,
                batch_id=batch_id,
                contact_id=contact_id,
                recipient=recipient,
                site=site,
                kind=kind,
                at=now,
                detail=detail,
            )
            for message_id, tenant_id, batch_id, contact_id, recipient, site in rows
        ]
    )
