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
from django.db import connection

from esp.kit.pauses import claims_paused_by
from esp.lib.ids import to_public
from sending.messages.finding import next_batch_keys

# Words for people, by kind of finding; `{count}` is filled in.
SENTENCES = {
    "no-entry": "{count} waiting messages are not in the queue: nobody would ever try them.",
    "orphan-entry": "{count} queue entries belong to messages that are final or gone.",
    "overdue": "{count} messages are due for long in batches that run, and nobody takes them.",
    "dead-lease": "{count} messages are with workers whose lease ended long ago.",
    "long-lease": "{count} leases end much too far in the future: a worker's clock is wrong.",
    "far-due": "{count} messages are to be tried only after they have expired.",
    "expired": "{count} messages wait although their life is over.",
    "ahead": "{count} new messages would wait without a reason: a web host's clock is ahead.",
    "no-content": "{count} waiting messages have lost their content: nothing could be sent.",
    "misfiled": "{count} queue entries name another batch or workspace than their messages do.",
    "closed-batch": "{count} messages are in the queue of a batch that is over.",
    "no-batch": "{count} messages wait in a batch that does not exist.",
}

_NIL = uuid.UUID(int=0)
_SAMPLE = 5
_PER_BATCH = 200
_MOST_BATCHES = 2000
# Held and future entries of a batch that are looked at for why others of it wait.
_HELD_LOOKED_AT = 2000


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
            "is_repairable": self.kind in _MENDABLE,
            "examples": [to_public("msg", key) for key in self.ids[:_SAMPLE]],
        }


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the walks go on: after this entry; this message of this batch; this queued batch."""

    entry: uuid.UUID = _NIL
    batch: uuid.UUID = _NIL
    message: uuid.UUID = _NIL
    queued: uuid.UUID = _NIL


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

# Entries in the order of their messages' age; the second part says what is wrong with each. A
# worker ends what is over when it claims it, so that nobody holds it for two leases after that.
_WALK_ENTRIES = """
WITH part AS MATERIALIZED (
    SELECT message_id, tenant_id, batch_id, due_at, expires_at, worker,
           attempts = 0 AND hold = '' AND reason = '' AS has_no_reason
    FROM sending_queueentry
    WHERE message_id > %(after)s ORDER BY message_id LIMIT %(rows)s
)
SELECT part.message_id,
       CASE WHEN message.id IS NULL OR message.status NOT IN ('queued', 'deferred')
                 THEN 'orphan-entry'
            WHEN part.expires_at < %(expired)s
                 AND (part.worker = '' OR part.due_at < %(expired)s
                      OR part.expires_at < %(leases_ago)s)
                 THEN 'expired'
            WHEN NOT EXISTS (SELECT 1 FROM sending_messagecontent content
                             WHERE content.id = message.content_id) THEN 'no-content'
            WHEN (part.batch_id, part.tenant_id) <> (message.batch_id, message.tenant_id)
                 THEN 'misfiled'
            WHEN part.worker <> '' AND part.due_at > %(longest)s THEN 'long-lease'
            WHEN part.worker = '' AND part.due_at > part.expires_at THEN 'far-due'
            WHEN part.worker = '' AND part.has_no_reason AND part.due_at > %(soon)s THEN 'ahead'
       END AS kind,
       count(*) OVER () AS seen, max(part.message_id::text) OVER () AS last
FROM part LEFT JOIN sending_message message ON message.id = part.message_id
ORDER BY 2 NULLS LAST LIMIT 1000
"""

_WALK_MESSAGES = """
WITH part AS MATERIALIZED (
    SELECT id, status, expires_at FROM sending_message WHERE id = ANY(%(ids)s)
), missing AS (
    SELECT id, expires_at < %(expired)s AS is_over FROM part
    WHERE status IN ('queued', 'deferred')
      AND NOT EXISTS (SELECT 1 FROM sending_queueentry entry WHERE entry.message_id = part.id)
    LIMIT 1000
)
SELECT ARRAY(SELECT id FROM missing WHERE NOT is_over), ARRAY(SELECT id FROM missing WHERE is_over)
"""

# Batches whose messages may still wait. A cancelled one is cleared by its own sweep.
_OPEN_BATCHES = """
SELECT id FROM sending_batch
WHERE (status IN ('running', 'paused') OR (status = 'done' AND finished_at > %(lately)s))
  AND id >= %(after)s
ORDER BY id LIMIT %(most)s
"""

# Batches of messages that have no row any more, by hops through the index (batch, id) and by the
# spans: asked once a round, because it looks at all batches that there are.
_ABSENT_BATCHES = """
WITH RECURSIVE hop AS (
    (SELECT batch_id FROM sending_message WHERE NOT is_spanned ORDER BY batch_id LIMIT 1)
    UNION ALL
    SELECT (SELECT message.batch_id FROM sending_message message
            WHERE NOT is_spanned AND message.batch_id > hop.batch_id
            ORDER BY message.batch_id LIMIT 1)
    FROM hop WHERE hop.batch_id IS NOT NULL
), known AS (
    SELECT batch_id FROM hop WHERE batch_id IS NOT NULL
    UNION SELECT batch_id FROM sending_messagespan
)
SELECT known.batch_id FROM known LEFT JOIN sending_batch batch ON batch.id = known.batch_id
WHERE batch.id IS NULL
LIMIT %(rows)s
"""

# The batches that have entries, by hops through the index (batch_id, due_at).
_QUEUED_BATCHES = """
WITH RECURSIVE hop AS (
    (SELECT batch_id FROM sending_queueentry WHERE batch_id > %(after)s
     ORDER BY batch_id LIMIT 1)
    UNION ALL
    SELECT (SELECT entry.batch_id FROM sending_queueentry entry
            WHERE entry.batch_id > hop.batch_id ORDER BY entry.batch_id LIMIT 1)
    FROM hop WHERE hop.batch_id IS NOT NULL
)
SELECT hop.batch_id,
       CASE WHEN batch.id IS NULL THEN 'no-batch'
            WHEN batch.status = 'cancelled' AND batch.finished_at > %(long_ago)s THEN 'cancelled'
            WHEN batch.status NOT IN ('running', 'paused') THEN 'closed-batch'
            WHEN batch.status = 'paused' THEN 'paused'
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
SELECT message_id FROM unnest(%(batches)s::uuid[]) AS asked (batch_id)
CROSS JOIN LATERAL (SELECT message_id FROM sending_queueentry
                    WHERE batch_id = asked.batch_id LIMIT %(rows)s) entry
"""

# Batches whose oldest entry is due for long, and where nobody is at work just now.
_STALLED = """
SELECT asked.batch_id
FROM unnest(%(batches)s::uuid[]) AS asked (batch_id)
CROSS JOIN LATERAL (SELECT due_at FROM sending_queueentry
                    WHERE batch_id = asked.batch_id ORDER BY due_at LIMIT 1) oldest
WHERE oldest.due_at < %(long_ago)s
  AND NOT EXISTS (SELECT 1 FROM sending_queueentry leased
                  WHERE leased.batch_id = asked.batch_id AND leased.worker <> ''
                    AND leased.due_at > %(now)s AND leased.due_at <= %(longest)s)
"""

# The limits of ours that hold others of the batch: what they hold is left out of claims, so that
# most of it stands in the queue as due and without a word.
_HOLDS_IN = """
SELECT DISTINCT CASE WHEN hold = ANY(%(wide)s) THEN '' ELSE domain END
FROM (SELECT hold, domain FROM sending_queueentry
      WHERE batch_id = %(batch)s AND due_at > %(lately_due)s
      ORDER BY due_at LIMIT %(looked_at)s) AS future
WHERE hold <> ''
"""

_OVERDUE = """
SELECT message_id, worker <> '' FROM (
    SELECT message_id, worker, domain FROM sending_queueentry
    WHERE batch_id = %(batch)s AND due_at < %(long_ago)s
    ORDER BY due_at LIMIT %(looked_at)s) AS late
WHERE domain <> ALL(%(held)s) LIMIT %(rows)s
"""

# What a wrong clock leaves behind: leases that end beyond any lease.
_LONG = """
SELECT message_id FROM unnest(%(batches)s::uuid[]) AS asked (batch_id)
CROSS JOIN LATERAL (
    SELECT message_id, worker FROM sending_queueentry
    WHERE batch_id = asked.batch_id AND due_at > %(longest)s
    ORDER BY due_at DESC LIMIT %(rows)s) last
WHERE worker <> ''
"""

# Limits that hold a whole batch; the others hold one destination of it.
_WIDE_HOLDS = ["node", "route", "tenant-rate", "batch-rate", "global-rate"]
# What a person need not decide: `sending.dispatch.mending` can do it.
_MENDABLE = frozenset(SENTENCES) - {"overdue", "dead-lease", "closed-batch", "no-batch"}


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

    lease = dt.timedelta(seconds=settings.DELIVERY_LEASE_SECONDS)
    moments = {
        "now": now,
        "longest": now + 2 * lease,
        "leases_ago": now - 2 * lease,
        "expired": now - dt.timedelta(seconds=120),
        "soon": now + dt.timedelta(seconds=300),
        "long_ago": now - dt.timedelta(seconds=overdue_seconds),
        "lately_due": now - dt.timedelta(seconds=60),
        "lately": now - dt.timedelta(days=1),
    }
    entry = _walk_entries(report, add, after.entry, rows, moments)
    batch, message = _walk_messages(report, add, after, rows, moments)
    if after == Cursor():
        for (absent,) in _rows(_ABSENT_BATCHES, {"rows": _PER_BATCH}):
            add("no-batch", next_batch_keys(absent, limit=_PER_BATCH, is_waiting=True))
    queued = _ask_batches(report, add, after.queued, moments)
    report.cursor = Cursor(entry, batch, message, queued)
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
        keys = next_batch_keys(batch, after=message, limit=left)
        ((missing, over),) = _rows(_WALK_MESSAGES, {**moments, "ids": keys})
        report.messages_seen += len(keys)
        add("no-entry", missing)
        add("expired", over)
        if len(keys) == left:
            return batch, keys[-1]
    return (batches[-1][0], _NIL) if len(batches) == _MOST_BATCHES else (_NIL, _NIL)


def _ask_batches(report: Report, add: Any, after: uuid.UUID, moments: dict[str, Any]) -> uuid.UUID:
    """Ask each batch with entries whether it moves; returns the batch to go on after."""
    states = dict(_rows(_QUEUED_BATCHES, {**moments, "after": after, "most": _MOST_BATCHES}))
    asked = {**moments, "rows": _PER_BATCH, "batches": list(states)}
    for kind in ("no-batch", "closed-batch"):
        batches = [batch for batch, state in states.items() if state == kind]
        if batches:
            got = _rows(_ENTRIES_OF, {**asked, "batches": batches})
            add(kind, [row[0] for row in got])
    add("long-lease", [row[0] for row in _rows(_LONG, asked)])
    running = [batch for batch, state in states.items() if state == "running"]
    for (batch,) in _rows(_STALLED, {**asked, "batches": running}):
        states[batch] = _why_stalled(add, batch, asked)
    for state in states.values():
        report.waiting[state] = report.waiting.get(state, 0) + 1
    return max(states) if len(states) >= _MOST_BATCHES else _NIL


def _why_stalled(add: Any, batch: uuid.UUID, asked: dict[str, Any]) -> str:
    """Return what a batch waits for that should move; adds its entries where nothing says it."""
    if claims_paused_by():
        return "engine-paused"
    asked = {**asked, "batch": batch, "looked_at": _HELD_LOOKED_AT}
    held = [row[0] for row in _rows(_HOLDS_IN, {**asked, "wide": _WIDE_HOLDS})]
    late = [] if "" in held else _rows(_OVERDUE, {**asked, "held": held})
    for key, is_leased in late:
        add("dead-lease" if is_leased else "overdue", [key])
    return "running" if late else "limited"


def _rows(sql: str, params: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows
