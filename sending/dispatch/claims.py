"""Lease due messages to a worker, fairly among tenants and batches.

A lease is the entry's `due_at` pushed to the lease's end, under the worker's name: one index serves
new, waiting and abandoned messages alike, and an entry whose worker died is simply due again.

The lease is committed durably. With `synchronous_commit = off` a crash of PostgreSQL could forget
it while the worker lives: another one would claim the message and send it a second time.
"""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from django.db import connection

from esp.kit.arrays import ints, raw_cursor, texts, times, uuids
from sending.dispatch.turns import Ready, allot, ready_batches
from sending.dispatch.walks import Walks, Window

# How often one claim asks anew when batches had less than their share.
_ROUNDS = 4

_system_random = random.SystemRandom()

# By arrays of keys throughout: whatever the planner believes of tables that grow by a million rows
# between two ANALYZEs, it takes the indexes. A turn looks at so many entries, and each that it may
# have is locked one by one: where another worker is about to take some, it goes on to the next.
_LEASE = """
WITH due AS MATERIALIZED (
    SELECT entry.message_id, entry.worker
    FROM unnest(%(batches)s, %(shares)s, %(full)s, %(starts)s, %(rows)s)
         AS turn (batch_id, share, full_at, start, rows)
    JOIN sending_batch batch ON batch.id = turn.batch_id AND batch.status = 'running'
    CROSS JOIN LATERAL (
        SELECT locked.message_id, locked.worker
        FROM (
            SELECT ctid, domain FROM sending_queueentry
            WHERE batch_id = turn.batch_id AND due_at >= turn.start AND due_at <= %(now)s
            ORDER BY due_at
            LIMIT turn.rows
        ) seen
        CROSS JOIN LATERAL (
            SELECT message_id, worker FROM sending_queueentry
            WHERE ctid = seen.ctid AND due_at <= %(now)s
            FOR UPDATE SKIP LOCKED
        ) locked
        WHERE seen.domain <> ALL(%(avoid)s)
          AND (turn.full_at = '' OR strpos(turn.full_at, ' ' || seen.domain || ' ') = 0)
        LIMIT turn.share
    ) entry
)
UPDATE sending_queueentry entry
SET due_at = %(lease_end)s, worker = %(worker)s, reason = '', hold = ''
WHERE message_id = ANY(ARRAY(SELECT message_id FROM due))
RETURNING message_id, batch_id, domain, attempts, expires_at,
          message_id = ANY(ARRAY(SELECT message_id FROM due WHERE due.worker <> ''))
"""

# What a delivery needs of messages, and whether they must not leave any more.
_MESSAGES = """
SELECT message.id, message.tenant_id, message.batch_id, message.content_id, message.contact_id,
       message.stream, message.recipient, message.recipient_name, message.variables::text,
       message.created_at, message.status,
       (SELECT s.reason FROM sending_suppression s
        WHERE s.tenant_id = message.tenant_id AND s.email_norm = message.recipient
          AND (s.scope = 'all' OR message.stream = 'broadcast') LIMIT 1) AS suppressed,
       (message.contact_id IS NOT NULL AND cardinality(content.list_ids) > 0 AND NOT EXISTS (
            SELECT 1 FROM sending_subscription s
            WHERE s.contact_list_id = ANY(content.list_ids)
              AND s.contact_id = message.contact_id AND s.status = 'subscribed')) AS has_left,
       content.domain_id
FROM sending_message message
JOIN sending_messagecontent content ON content.id = message.content_id
WHERE message.id = ANY(%(ids)s) AND message.status IN ('queued', 'deferred')
"""

_WAITING = """
SELECT message_id, batch_id, domain, attempts, expires_at, false
FROM sending_queueentry WHERE message_id = ANY(%(ids)s)
"""


@dataclass(slots=True)
class Job:
    """A leased message with all that rendering needs but the content itself."""

    message_id: uuid.UUID
    tenant_id: uuid.UUID
    batch_id: uuid.UUID
    content_id: uuid.UUID
    contact_id: uuid.UUID | None
    stream: str
    recipient: str
    recipient_name: str
    variables: dict[str, Any]
    created_at: dt.datetime
    domain: str
    attempts: int  # made before this lease
    expires_at: dt.datetime
    status: str
    suppressed: str | None  # the suppression's reason, when one came after the message was accepted
    has_left: bool  # the contact has left the lists since
    domain_id: uuid.UUID | None = None  # the sender's domain
    is_taken_over: bool = False  # another worker's lease on it has run out
    only_route: str | None = None  # the route of a try whose fate is unknown ("" is direct)


# (message, batch, domain, attempts, end of life, whether another's lease on it has run out)
_Lease = tuple[Any, ...]


def claim(
    *,
    stream: str,
    limit: int,
    worker: str,
    now: dt.datetime,
    lease: dt.timedelta,
    avoid: Collection[str] = (),
    full: Collection[tuple[str, str]] = (),
    avoid_batches: Collection[uuid.UUID] = (),
    ready: Sequence[Ready] | None = None,
    walks: Walks | None = None,
    rng: random.Random = _system_random,
) -> list[Job]:
    """Lease at most `limit` due messages of `stream` to `worker` until `now + lease`.

    None of them is for a domain in `avoid`, of a batch in `avoid_batches`, or of a batch for a
    domain that `full` has together as (batch's id, domain). `ready` are the batches to choose from,
    if the caller knows them already (`turns.ready_batches`). The leases are committed when this
    returns.

    A claim looks at a bounded number of entries, whatever waits. `walks` remembers from claim to
    claim how far; where that is under way still, there may be more to have than this returned.
    """
    left = ready_batches(stream, now) if ready is None else ready
    left = [one for one in left if one.batch_id not in avoid_batches]
    walks = Walks() if walks is None else walks
    walks.is_under_way = False
    leases: list[_Lease] = []
    closed = _Closed(avoid, full)
    with connection.wrap_database_errors:
        for _ in range(_ROUNDS):
            if not left or len(leases) >= limit:
                break
            asked = allot(left, limit - len(leases), rng)
            closed.ask(asked)
            windows = walks.windows(asked, closed.by_batch)
            got = _lease(asked, windows, closed, worker=worker, now=now, end=now + lease)
            leases += got
            counts = Counter(one[1] for one in got)
            dry = {batch for batch, number in asked.items() if counts[batch] < number}
            more = walks.note({batch: windows[batch] for batch in dry}, closed.by_batch, now)
            walks.is_under_way = bool(more)
            left = [one for one in left if one.batch_id not in dry or one.batch_id in more]
        return _jobs(leases)


class _Closed:
    """The destinations that a claim leaves out: of all batches, and of each that was asked."""

    def __init__(self, avoid: Collection[str], full: Collection[tuple[str, str]]) -> None:
        self.everywhere = frozenset(avoid)
        self.by_batch: dict[uuid.UUID, frozenset[str]] = {}
        self._full: dict[str, list[str]] = defaultdict(list)
        for batch, domain in full:
            self._full[batch].append(domain)

    def ask(self, batches: Iterable[uuid.UUID]) -> None:
        """Put all that is left out of `batches` into `by_batch`."""
        for batch in batches:
            if batch not in self.by_batch:
                self.by_batch[batch] = self.everywhere.union(self.only_of(batch))

    def only_of(self, batch: uuid.UUID) -> Sequence[str]:
        """Return what is left out of `batch` alone."""
        return self._full.get(str(batch), ())


def _lease(
    asked: Mapping[uuid.UUID, int],
    windows: Mapping[uuid.UUID, Window],
    closed: _Closed,
    *,
    worker: str,
    now: dt.datetime,
    end: dt.datetime,
) -> list[_Lease]:
    cursor = raw_cursor().execute(
        _LEASE,
        {
            "batches": uuids(asked),
            "shares": ints(asked.values()),
            "full": texts(_listed(closed.only_of(batch)) for batch in asked),
            "starts": times(windows[batch].start for batch in asked),
            "rows": ints(windows[batch].rows for batch in asked),
            "now": now,
            "avoid": texts(closed.everywhere),
            "lease_end": end,
            "worker": worker,
        },
    )
    return cursor.fetchall()


def _listed(domains: Collection[str]) -> str:
    """Return `domains` as the statement looks them up: between blanks; "" for none."""
    return f" {' '.join(domains)} " if domains else ""


def jobs_for(message_ids: Collection[uuid.UUID]) -> list[Job]:
    """Return the jobs of those messages that still wait, whoever holds them; nothing is leased."""
    with connection.wrap_database_errors:
        cursor = raw_cursor().execute(_WAITING, {"ids": uuids(message_ids)})
        return _jobs(cursor.fetchall())


def _jobs(leases: Sequence[_Lease]) -> list[Job]:
    """Return the jobs of `leases` in their order; a message that is gone or final has none."""
    if not leases:
        return []
    cursor = raw_cursor().execute(_MESSAGES, {"ids": uuids(lease[0] for lease in leases)})
    found = {row[0]: row for row in cursor.fetchall()}
    routes = _routes_of_unknown_fate([lease[0] for lease in leases if lease[3]])
    jobs = []
    for message_id, _, domain, attempts, expires_at, is_taken_over in leases:
        row = found.get(message_id)
        if row is not None:
            variables, created_at, status, suppressed, has_left, domain_id = row[8:]
            jobs.append(
                Job(
                    message_id=message_id,
                    tenant_id=row[1],
                    batch_id=row[2],
                    content_id=row[3],
                    contact_id=row[4],
                    stream=row[5],
                    recipient=row[6],
                    recipient_name=row[7],
                    variables=orjson.loads(variables),
                    created_at=created_at,
                    domain=domain,
                    attempts=attempts,
                    expires_at=expires_at,
                    status=status,
                    suppressed=suppressed,
                    has_left=has_left,
                    domain_id=domain_id,
                    is_taken_over=is_taken_over,
                    only_route=routes.get(message_id),
                )
            )
    return jobs


def _routes_of_unknown_fate(message_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, str]:
    """Return by which route messages may have been delivered without our knowing."""
    if not message_ids:
        return {}
    cursor = raw_cursor().execute(_AMBIGUOUS, {"ids": uuids(message_ids)})
    return dict(cursor.fetchall())


_AMBIGUOUS = """
SELECT message_id, route FROM sending_attempt
WHERE message_id = ANY(%(ids)s) AND is_ambiguous ORDER BY id
"""

_GIVE_BACK = """
UPDATE sending_queueentry SET due_at = %(now)s, worker = ''
WHERE message_id = ANY(%(ids)s) AND worker = %(worker)s
"""


def give_back(message_ids: Collection[uuid.UUID], *, worker: str, now: dt.datetime) -> None:
    """End leases of `worker` early: the messages are due at once."""
    with connection.wrap_database_errors:
        raw_cursor().execute(_GIVE_BACK, {"now": now, "ids": uuids(message_ids), "worker": worker})


_KEEP = """
UPDATE sending_queueentry SET due_at = %(end)s
WHERE message_id = ANY(%(ids)s) AND worker = %(worker)s
"""


def keep(message_ids: Collection[uuid.UUID], *, worker: str, end: dt.datetime) -> None:
    """Renew leases that `worker` still holds until `end`."""
    with connection.wrap_database_errors:
        raw_cursor().execute(_KEEP, {"end": end, "ids": uuids(message_ids), "worker": worker})


def has_due(stream: str, now: dt.datetime) -> bool:
    """Tell whether a message of `stream` is due that may leave now."""
    return bool(ready_batches(stream, now))
