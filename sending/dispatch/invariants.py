"""What must be true of the queue at any time: every waiting message has a next attempt or a reason.

A look at the queue costs the same at ten million rows as at ten thousand: the walks over messages
and entries take a window a run and go on where the last run stopped; the rest asks indexes, a few
rows a batch. Each check is one statement, so that it never sees half of a transaction.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db import connection, transaction

from esp.lib.ids import to_public

# Words for people, by kind of finding; `{count}` is filled in.
SENTENCES = {
    "no-entry": "{count} waiting messages are not in the queue: nobody would ever try them.",
    "orphan-entry": "{count} queue entries belong to messages that are final or gone.",
    "overdue": "{count} messages are due for long in batches that run, and nobody takes them.",
    "dead-lease": "{count} messages are with workers whose lease ended long ago.",
    "long-lease": "{count} leases end much too far in the future: a worker's clock is wrong.",
    "far-due": "{count} messages are to be tried only after they have expired.",
    "expired": "{count} messages wait although their life is over.",
    "closed-batch": "{count} messages are in the queue of a batch that is done.",
    "no-batch": "{count} messages are in the queue of a batch that does not exist.",
}
REPAIRABLE = frozenset({"no-entry", "orphan-entry", "long-lease", "far-due", "expired"})

_NIL = uuid.UUID(int=0)
_SAMPLE = 5
_PER_BATCH = 200
_MOST_BATCHES = 2000


@dataclass(frozen=True, slots=True)
class Finding:
    """Messages that break one rule; `ids` are all that were found, bounded by the window."""

    kind: str
    ids: tuple[uuid.UUID, ...]

    @property
    def sentence(self) -> str:
        """What is wrong, for people."""
        return SENTENCES[self.kind].format(count=len(self.ids))

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON; a few ids, in the form that users see."""
        return {
            "kind": self.kind,
            "count": len(self.ids),
            "sentence": self.sentence,
            "is_repairable": self.kind in REPAIRABLE,
            "examples": [to_public("msg", key) for key in self.ids[:_SAMPLE]],
        }


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the walks go on: after this entry; after this message of this batch."""

    entry: uuid.UUID = _NIL
    batch: uuid.UUID = _NIL
    message: uuid.UUID = _NIL


@dataclass(slots=True)
class Report:
    """What a look at the queue found; `waiting` counts batches with mail by why it waits."""

    findings: list[Finding] = field(default_factory=list)
    waiting: dict[str, int] = field(default_factory=dict)
    entries_seen: int = 0
    messages_seen: int = 0
    cursor: Cursor = Cursor()
    repaired: dict[str, int] = field(default_factory=dict)

    @property
    def is_well(self) -> bool:
        """Whether nothing is left that breaks a rule."""
        return all(self.repaired.get(found.kind, 0) >= len(found.ids) for found in self.findings)


# --- walking ---------------------------------------------------------------------------------

# Entries in the order of their messages' age; the second part says what is wrong with each.
_WALK_ENTRIES = """
WITH part AS MATERIALIZED (
    SELECT message_id, batch_id, due_at, expires_at, worker FROM sending_queueentry
    WHERE message_id > %(after)s ORDER BY message_id LIMIT %(rows)s
)
SELECT part.message_id,
       CASE WHEN message.id IS NULL OR message.status NOT IN ('queued', 'deferred')
                 THEN 'orphan-entry'
            WHEN part.expires_at < %(expired)s AND (part.worker = '' OR part.due_at < %(expired)s)
                 THEN 'expired'
            WHEN part.worker = '' AND part.due_at > part.expires_at THEN 'far-due'
            WHEN part.worker <> '' AND part.due_at > %(longest)s THEN 'long-lease'
       END AS kind,
       count(*) OVER () AS seen, max(part.message_id::text) OVER () AS last
FROM part LEFT JOIN sending_message message ON message.id = part.message_id
ORDER BY 2 NULLS LAST LIMIT 1000
"""

_WALK_MESSAGES = """
WITH part AS MATERIALIZED (
    SELECT id, status FROM sending_message
    WHERE batch_id = %(batch)s AND id > %(after)s ORDER BY id LIMIT %(rows)s
)
SELECT (SELECT count(*) FROM part), (SELECT max(id::text) FROM part),
       ARRAY(SELECT id FROM part WHERE status IN ('queued', 'deferred')
             AND NOT EXISTS (SELECT 1 FROM sending_queueentry entry
                             WHERE entry.message_id = part.id)
             LIMIT 1000)
"""

# Batches whose messages may still wait. A cancelled one is cleared by its own sweep.
_OPEN_BATCHES = """
SELECT id FROM sending_batch
WHERE (status IN ('running', 'paused') OR (status = 'done' AND finished_at > %(lately)s))
  AND id >= %(after)s
ORDER BY id LIMIT %(most)s
"""

# The batches that have entries, by hops through the index (batch_id, due_at).
_QUEUED_BATCHES = """
WITH RECURSIVE hop AS (
    (SELECT batch_id FROM sending_queueentry ORDER BY batch_id LIMIT 1)
    UNION ALL
    SELECT (SELECT entry.batch_id FROM sending_queueentry entry
            WHERE entry.batch_id > hop.batch_id ORDER BY entry.batch_id LIMIT 1)
    FROM hop WHERE hop.batch_id IS NOT NULL
)
SELECT hop.batch_id,
       CASE WHEN batch.id IS NULL THEN 'no-batch'
            WHEN batch.status = 'done' THEN 'closed-batch'
            WHEN batch.status <> 'running' THEN batch.status
            WHEN tenant.status <> 'active' THEN 'suspended'
            WHEN EXISTS (
                SELECT 1 FROM deliverability_sendinghold hold
                WHERE hold.tenant_id = batch.tenant_id
                  AND (hold.batch_ref IS NULL OR hold.batch_ref = batch.id)
                  AND hold.stream IN ('', batch.stream) AND hold.lifted_at IS NULL
                  AND (hold.until IS NULL OR hold.until > %(now)s)) THEN 'held'
            ELSE 'running' END
FROM hop
LEFT JOIN sending_batch batch ON batch.id = hop.batch_id
LEFT JOIN tenants_tenant tenant ON tenant.id = batch.tenant_id
WHERE hop.batch_id IS NOT NULL
LIMIT %(most)s
"""

_ENTRIES_OF = """
SELECT message_id FROM sending_queueentry WHERE batch_id = %(batch)s LIMIT %(rows)s
"""

# The batch's oldest due entries, unless somebody is at work on the batch just now.
_OVERDUE = """
SELECT message_id, worker <> '' FROM sending_queueentry
WHERE batch_id = %(batch)s AND due_at < %(long_ago)s
  AND NOT EXISTS (SELECT 1 FROM sending_queueentry leased
                  WHERE leased.batch_id = %(batch)s AND leased.worker <> ''
                    AND leased.due_at > %(now)s AND leased.due_at <= %(longest)s)
ORDER BY due_at LIMIT %(rows)s
"""

# What a wrong clock leaves behind: leases that end beyond any lease.
_LONG = """
SELECT message_id FROM sending_queueentry
WHERE batch_id = %(batch)s AND due_at > %(longest)s AND worker <> ''
ORDER BY due_at DESC LIMIT %(rows)s
"""


def check_queue(
    *,
    now: dt.datetime,
    after: Cursor | None = None,
    rows: int = 20_000,
    overdue_seconds: float = 600.0,
) -> Report:
    """Look at the queue, at most `rows` entries and as many messages from `after` on.

    The report's cursor is where to go on; it is the beginning again once everything was seen.
    """
    report = Report()
    after = after or Cursor()
    found: dict[str, dict[uuid.UUID, None]] = {}

    def add(kind: str, ids: Sequence[uuid.UUID]) -> None:
        found.setdefault(kind, {}).update(dict.fromkeys(ids))

    moments = {
        "now": now,
        "longest": now + dt.timedelta(seconds=2 * settings.DELIVERY_LEASE_SECONDS),
        "expired": now - dt.timedelta(seconds=120),
        "long_ago": now - dt.timedelta(seconds=overdue_seconds),
        "lately": now - dt.timedelta(days=1),
    }
    entry = _walk_entries(report, add, after.entry, rows, moments)
    batch, message = _walk_messages(report, add, after, rows, moments)
    _ask_batches(report, add, moments)
    report.cursor = Cursor(entry, batch, message)
    report.findings = [Finding(kind, tuple(ids)) for kind, ids in sorted(found.items()) if ids]
    return report


def _walk_entries(
    report: Report, add: Any, after: uuid.UUID, rows: int, moments: dict[str, Any]
) -> uuid.UUID:
    got = _rows(_WALK_ENTRIES, {**moments, "after": after, "rows": rows})
    for key, kind, _, _ in got:
        if kind is not None:
            add(kind, [key])
    if not got:
        return _NIL
    report.entries_seen = int(got[0][2])
    return uuid.UUID(got[0][3]) if report.entries_seen >= rows else _NIL


def _walk_messages(
    report: Report, add: Any, after: Cursor, rows: int, moments: dict[str, Any]
) -> tuple[uuid.UUID, uuid.UUID]:
    """Walk batch by batch; returns the batch and the message to go on after."""
    batches = _rows(_OPEN_BATCHES, {**moments, "after": after.batch, "most": _MOST_BATCHES})
    message = after.message
    for (batch,) in batches:
        if batch != after.batch:
            message = _NIL
        left = rows - report.messages_seen
        if left <= 0:
            return batch, message
        ((seen, last, missing),) = _rows(
            _WALK_MESSAGES, {"batch": batch, "after": message, "rows": left}
        )
        report.messages_seen += seen
        add("no-entry", missing)
        if seen == left:
            return batch, uuid.UUID(last)
    return (batches[-1][0], _NIL) if len(batches) == _MOST_BATCHES else (_NIL, _NIL)


def _ask_batches(report: Report, add: Any, moments: dict[str, Any]) -> None:
    for batch, state in _rows(_QUEUED_BATCHES, {**moments, "most": _MOST_BATCHES}):
        report.waiting[state] = report.waiting.get(state, 0) + 1
        asked = {**moments, "batch": batch, "rows": _PER_BATCH}
        if state in ("no-batch", "closed-batch"):
            add(state, [row[0] for row in _rows(_ENTRIES_OF, asked)])
            continue
        add("long-lease", [row[0] for row in _rows(_LONG, asked)])
        if state == "running":
            for key, is_leased in _rows(_OVERDUE, asked):
                add("dead-lease" if is_leased else "overdue", [key])


def _rows(sql: str, params: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


# --- repairing -------------------------------------------------------------------------------

_MAKE_ENTRIES = """
INSERT INTO sending_queueentry
    (message_id, tenant_id, batch_id, domain, due_at, expires_at, attempts, worker, reason)
SELECT id, tenant_id, batch_id, split_part(recipient, '@', -1), %(now)s, expires_at, attempts, '',
       'Put back into the queue by the queue check.'
FROM sending_message
WHERE id = ANY(%(ids)s) AND status IN ('queued', 'deferred')
FOR UPDATE
ON CONFLICT (message_id) DO NOTHING
"""

_DROP_ORPHANS = """
DELETE FROM sending_queueentry entry
WHERE entry.message_id = ANY(%(ids)s) AND (entry.worker = '' OR entry.due_at <= %(now)s)
  AND NOT EXISTS (SELECT 1 FROM sending_message message
                  WHERE message.id = entry.message_id AND message.status IN ('queued', 'deferred'))
"""

# The worker may be alive and only its clock wrong: it gets one ordinary lease more.
_SHORTEN_LEASES = """
UPDATE sending_queueentry SET due_at = %(lease_end)s
WHERE message_id = ANY(%(ids)s) AND worker <> '' AND due_at > %(longest)s
"""

_BRING_FORWARD = """
UPDATE sending_queueentry SET due_at = %(now)s
WHERE message_id = ANY(%(ids)s) AND worker = '' AND due_at > expires_at
"""

# Due now, so that the expiry sweep, which looks at what is due, ends it.
_LET_EXPIRE = """
UPDATE sending_queueentry SET due_at = least(due_at, %(now)s), worker = ''
WHERE message_id = ANY(%(ids)s) AND expires_at < %(now)s
"""

_REPAIRS = {
    "no-entry": _MAKE_ENTRIES,
    "orphan-entry": _DROP_ORPHANS,
    "long-lease": _SHORTEN_LEASES,
    "far-due": _BRING_FORWARD,
    "expired": _LET_EXPIRE,
}


def repair(report: Report, *, now: dt.datetime) -> None:
    """Mend what is safe to mend, each kind in one transaction; `report.repaired` says how many.

    Every statement asks its condition again: what changed since the look is left alone.
    """
    lease = dt.timedelta(seconds=settings.DELIVERY_LEASE_SECONDS)
    for finding in report.findings:
        if finding.kind not in _REPAIRS:
            continue
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                _REPAIRS[finding.kind],
                {
                    "ids": list(finding.ids),
                    "now": now,
                    "lease_end": now + lease,
                    "longest": now + 2 * lease,
                },
            )
            report.repaired[finding.kind] = cursor.rowcount
