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
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from django.db import connection

from esp.kit.arrays import raw_cursor, uuids
from sending.dispatch.leases import Closed, Lease, Taker
from sending.dispatch.turns import Ready, ready_batches
from sending.dispatch.walks import Walks
from sending.engine.verp import Addresses
from sending.messages.filling import addressee, filling

_system_random = random.SystemRandom()

# What a delivery needs of messages, and whether they must not leave any more.
_MESSAGES = """
SELECT message.id, message.tenant_id, message.batch_id, message.content_id, message.contact_id,
       message.stream, message.recipient, message.recipient_name, message.variables::text,
       message.created_at, message.status, message.is_spanned, message.first_name,
       message.last_name,
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
SELECT message_id, batch_id, domain, attempts, expires_at, false, false
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
    is_passed: bool = False  # to this node, by one that has no room
    passed_to: str = ""  # the node that may take it next (`dispatch.passing`)
    addresses: Addresses | None = None  # its own, from the moment that its envelope is made


def claim(
    *,
    stream: str,
    limit: int,
    worker: str,
    now: dt.datetime,
    lease: dt.timedelta,
    node: str = "",
    avoid: Collection[str] = (),
    full: Collection[tuple[str, str]] = (),
    avoid_batches: Collection[uuid.UUID] = (),
    ready: Sequence[Ready] | None = None,
    walks: Walks | None = None,
    rng: random.Random = _system_random,
) -> list[Job]:
    """Lease at most `limit` due messages of `stream` to `worker` until `now + lease`.

    None of them is for a domain in `avoid`, of a batch in `avoid_batches`, or of a batch for a
    domain that `full` has together as (batch's id, domain). What was passed on to `node` is leased
    too, due or not, of whichever batch. `ready` are the batches to choose from, if the caller knows
    them already (`turns.ready_batches`). The leases are committed when this returns.

    A claim looks at a bounded number of entries, whatever waits. `walks` remembers from claim to
    claim how far; where that is under way still, there may be more to have than this returned.
    """
    ready = ready_batches(stream, now, node=node) if ready is None else ready
    taker = Taker(worker, node, now, now + lease, Closed(avoid, full), walks or Walks())
    with connection.wrap_database_errors:
        return jobs_of(taker.take(ready, limit, frozenset(avoid_batches), rng))


def jobs_for(message_ids: Collection[uuid.UUID]) -> list[Job]:
    """Return the jobs of those messages that still wait, whoever holds them; nothing is leased."""
    with connection.wrap_database_errors:
        cursor = raw_cursor().execute(_WAITING, {"ids": uuids(message_ids)})
        return jobs_of(cursor.fetchall())


def jobs_of(leases: Sequence[Lease]) -> list[Job]:
    """Return the jobs of `leases` in their order; a message that is gone or final has none."""
    if not leases:
        return []
    cursor = raw_cursor().execute(_MESSAGES, {"ids": uuids(lease[0] for lease in leases)})
    # By the id's number, because a UUID's hash and comparison are calls of their own.
    found = {row[0].int: row for row in cursor.fetchall()}
    routes = _routes_of_unknown_fate([lease[0] for lease in leases if lease[3]])
    jobs = []
    for message_id, _, domain, attempts, expires_at, is_taken_over, is_passed in leases:
        row = found.get(message_id.int)
        if row is not None:
            recipient, recipient_name, kept, created_at, status = row[6:11]
            is_spanned, first_name, last_name, suppressed, has_left, domain_id = row[11:]
            jobs.append(
                Job(
                    message_id=message_id,
                    tenant_id=row[1],
                    batch_id=row[2],
                    content_id=row[3],
                    contact_id=row[4],
                    stream=row[5],
                    recipient=recipient,
                    recipient_name=addressee(recipient_name, first_name, last_name),
                    variables=filling(
                        orjson.loads(kept),
                        is_spanned=is_spanned,
                        recipient=recipient,
                        first_name=first_name,
                        last_name=last_name,
                    ),
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
                    is_passed=is_passed,
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


_LEAVE = """
UPDATE sending_queueentry SET due_at = %(now)s, worker = '', passed_to = ''
WHERE message_id = ANY(%(ids)s) AND worker = %(worker)s
"""


def leave(message_ids: Collection[uuid.UUID], *, worker: str, now: dt.datetime) -> None:
    """End leases of `worker` on what this node cannot send, whoever passed it on: due at once."""
    with connection.wrap_database_errors:
        raw_cursor().execute(_LEAVE, {"now": now, "ids": uuids(message_ids), "worker": worker})


_KEEP = """
UPDATE sending_queueentry SET due_at = %(end)s
WHERE message_id = ANY(%(ids)s) AND worker = %(worker)s
"""


def keep(message_ids: Collection[uuid.UUID], *, worker: str, end: dt.datetime) -> None:
    """Renew leases that `worker` still holds until `end`."""
    with connection.wrap_database_errors:
        raw_cursor().execute(_KEEP, {"end": end, "ids": uuids(message_ids), "worker": worker})


def has_due(stream: str, now: dt.datetime) -> bool:
    """Tell whether a message of `stream` is due that may leave now, from any node."""
    return bool(ready_batches(stream, now))
