"""Lease due messages to a worker, fairly among tenants and batches.

A lease is the entry's `due_at` pushed to the lease's end, under the worker's name: one index serves
new, waiting and abandoned messages alike, and an entry whose worker died is simply due again.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import orjson
from django.db import connection

# Batches that get a turn in one claim; with more, chance decides and the next claim serves others.
_TURNS = 16

# Turns go to batches with due mail: first one of each tenant, then the second ones, each tenant's
# by priority, so that a tenant's tenth campaign cannot crowd out another tenant's first.
_CLAIM = """
WITH ready AS MATERIALIZED (
    SELECT batch.id,
           row_number() OVER (
               PARTITION BY batch.tenant_id ORDER BY batch.priority DESC, random()
           ) AS turn
    FROM sending_batch batch
    JOIN tenants_tenant tenant ON tenant.id = batch.tenant_id AND tenant.status = 'active'
    WHERE batch.status = 'running' AND batch.stream = %(stream)s
      AND EXISTS (SELECT 1 FROM sending_queueentry entry
                  WHERE entry.batch_id = batch.id AND entry.due_at <= %(now)s)
), turns AS MATERIALIZED (
    SELECT id FROM ready ORDER BY turn, random() LIMIT %(turns)s
), due AS MATERIALIZED (
    SELECT entry.message_id, entry.worker <> '' AS is_taken_over
    FROM turns CROSS JOIN LATERAL (
        SELECT message_id, worker FROM sending_queueentry
        WHERE batch_id = turns.id AND due_at <= %(now)s AND domain <> ALL(%(avoid)s)
        ORDER BY due_at
        LIMIT (SELECT greatest(1, ceil(%(limit)s::numeric / count(*))) FROM turns)
        FOR UPDATE SKIP LOCKED
    ) entry
    LIMIT %(limit)s
), leased AS (
    UPDATE sending_queueentry entry
    SET due_at = %(lease_end)s, worker = %(worker)s
    FROM due WHERE entry.message_id = due.message_id
    RETURNING entry.message_id, entry.domain, entry.attempts, entry.expires_at, due.is_taken_over
)
"""

# What a delivery needs of the messages in `leased`.
_SELECT_JOBS = """
SELECT message.id, message.tenant_id, message.batch_id, message.content_id, message.contact_id,
       message.stream, message.recipient, message.recipient_name, message.variables,
       message.created_at,
       leased.domain, leased.attempts, leased.expires_at, message.status,
       (SELECT s.reason FROM sending_suppression s
        WHERE s.tenant_id = message.tenant_id AND s.email_norm = message.recipient
          AND (s.scope = 'all' OR message.stream = 'broadcast') LIMIT 1) AS suppressed,
       (message.contact_id IS NOT NULL AND cardinality(content.list_ids) > 0 AND NOT EXISTS (
            SELECT 1 FROM sending_subscription s
            WHERE s.contact_list_id = ANY(content.list_ids)
              AND s.contact_id = message.contact_id AND s.status = 'subscribed')) AS has_left,
       leased.is_taken_over
FROM leased
JOIN sending_message message ON message.id = leased.message_id
JOIN sending_messagecontent content ON content.id = message.content_id
"""


_WAITING = """
WITH leased AS (
    SELECT message_id, domain, attempts, expires_at, false AS is_taken_over
    FROM sending_queueentry WHERE message_id = ANY(%s)
)
"""


_VARIABLES = 8  # the place of `variables` in the claim's rows, and among the job's fields


@dataclass(frozen=True, slots=True)
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
    is_taken_over: bool = False  # another worker's lease on it has run out


def claim(
    *,
    stream: str,
    limit: int,
    worker: str,
    now: dt.datetime,
    lease: dt.timedelta,
    avoid: Collection[str] = (),
) -> list[Job]:
    """Lease at most `limit` due messages of `stream` to `worker` until `now + lease`.

    None of them is for a domain in `avoid`. The leases are committed when this returns.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _CLAIM + _SELECT_JOBS,
            {
                "stream": stream,
                "limit": limit,
                "turns": _TURNS,
                "worker": worker,
                "now": now,
                "lease_end": now + lease,
                "avoid": list(avoid),
            },
        )
        return [_job(row) for row in cursor.fetchall()]


def jobs_for(message_ids: Collection[uuid.UUID]) -> list[Job]:
    """Return the jobs of those messages that still wait, whoever holds them; nothing is leased."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITING + _SELECT_JOBS, [list(message_ids)])
        return [_job(row) for row in cursor.fetchall()]


def _job(row: tuple[Any, ...]) -> Job:
    """Return the job of a row; Django leaves jsonb as text in raw queries."""
    values = list(row)
    values[_VARIABLES] = orjson.loads(values[_VARIABLES])
    return Job(*values)


def give_back(message_ids: Collection[uuid.UUID], *, worker: str, now: dt.datetime) -> None:
    """End leases of `worker` early: the messages are due at once."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE sending_queueentry SET due_at = %s, worker = '' "
            "WHERE message_id = ANY(%s) AND worker = %s",
            [now, list(message_ids), worker],
        )


def has_due(stream: str, now: dt.datetime) -> bool:
    """Tell whether a message of `stream` is due that may leave now."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT EXISTS (
                SELECT 1 FROM sending_batch batch
                JOIN tenants_tenant tenant
                  ON tenant.id = batch.tenant_id AND tenant.status = 'active'
                WHERE batch.status = 'running' AND batch.stream = %s
                  AND EXISTS (SELECT 1 FROM sending_queueentry entry
                              WHERE entry.batch_id = batch.id AND entry.due_at <= %s))
            """,
            [stream, now],
        )
        return bool(cursor.fetchone()[0])
