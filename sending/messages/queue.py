"""Writes messages with their queue entries, set by set.

`insert_messages` takes rows from Python (API), `insert_messages_from_select` makes them from a
SELECT inside the database (campaigns: no recipient passes through Python).
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from django.conf import settings
from django.db import connection

from esp.lib.backoff import SCHEDULES, Schedule, expiry
from sending.events.models import EventKind
from sending.events.services import StatKey, add_counts, hour_of
from sending.messages.models import Batch, MessageSpan
from sending.messages.spans import ID_SQL, RANDOM_TAIL_SQL, SLOT_SQL

# A UUIDv7 (RFC 9562 section 5.7) in SQL for PostgreSQL 15: milliseconds, then the version, then the
# random bits of a version 4, whose variant stands at the same place. `uuid` reads hyphens after any
# four digits.
UUID7_SQL: Final = (
    "(lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7' || "
    "substr(gen_random_uuid()::text, 16))::uuid"
)

# A chunk is used twice, for messages and queue: it must not be put on disk in between.
_CHUNK_MEMORY: Final = "64MB"

# A message's id is in the slot of its address (`spans`), and rows are written in the order of their
# ids: the primary keys of messages and queue then grow at their end.
_SLOT: Final = SLOT_SQL.format(address="email", slots="%(mw_slots)s")
_SLOT_ID: Final = ID_SQL.format(us="(%(mw_us)s::bigint + n)", tail=RANDOM_TAIL_SQL)

_INSERT = """
WITH content AS (
    INSERT INTO sending_messagecontent (
        id, tenant_id, domain_id, from_name, from_email, reply_to, compiled, headers, attachments,
        track_opens, track_clicks, list_ids, is_test, created_at)
    VALUES (%(content)s, %(tenant)s, %(domain)s, %(from_name)s, %(from_email)s, %(reply_to)s,
            %(compiled)s::jsonb, %(headers)s::jsonb, %(attachments)s::jsonb, %(track_opens)s,
            %(track_clicks)s, '{}', false, %(now)s)
), incoming AS (
    SELECT * FROM json_to_recordset(%(messages)s) AS message (
        id uuid, recipient text, name text, variables jsonb, domain text, refusal text,
        contact_id uuid)
), written AS (
    INSERT INTO sending_message (
        id, tenant_id, batch_id, content_id, contact_id, stream, recipient, recipient_name,
        variables, tags, metadata, status, site, attempts, bounce_class, last_reply, created_at,
        expires_at, final_at, recipient_key)
    SELECT id, %(tenant)s, %(batch)s, %(content)s, contact_id, %(stream)s, recipient, name,
           variables, %(tags)s::varchar[], %(metadata)s::jsonb,
           CASE WHEN refusal = '' THEN 'queued' ELSE 'dropped' END,
           '', 0, CASE WHEN refusal = '' THEN '' ELSE 'block/suppressed' END, refusal, %(now)s,
           %(expires)s, CASE WHEN refusal = '' THEN NULL ELSE %(now)s::timestamptz END,
           hashtext(recipient)
    FROM incoming
)
INSERT INTO sending_queueentry
    (message_id, tenant_id, batch_id, domain, due_at, expires_at, attempts, worker, reason)
SELECT id, %(tenant)s, %(batch)s, domain, %(due)s, %(expires)s, 0, '', %(reason)s
FROM incoming WHERE refusal = ''
"""

# The rows are kept for two passes: first the whole queue, then the messages. Handing each message's
# key on to the queue by RETURNING keeps less, and costs a tenth more: two tables' pages take turns.
_INSERT_FROM_SELECT = """
WITH source AS (
    SELECT contact_id, email, first_name, last_name, variables, {slot} AS n
    FROM ({select}) AS chosen ORDER BY n
), fresh AS MATERIALIZED (
    SELECT {slot_id} AS id, contact_id, email, first_name, last_name, variables FROM source
), written AS (
    INSERT INTO sending_message (
        id, tenant_id, batch_id, content_id, contact_id, stream, recipient, recipient_name,
        first_name, last_name, variables, tags, metadata, status, site, attempts, bounce_class,
        last_reply, created_at, expires_at, is_spanned)
    SELECT id, %(mw_tenant)s, %(mw_batch)s, %(mw_content)s, contact_id, %(mw_stream)s, email, '',
           first_name, last_name, variables, '{{}}', '{{}}', 'queued', '', 0, '', '', %(mw_now)s,
           %(mw_expires)s, true
    FROM fresh
)
INSERT INTO sending_queueentry
    (message_id, tenant_id, batch_id, domain, due_at, expires_at, attempts, worker, reason)
SELECT id, %(mw_tenant)s, %(mw_batch)s, split_part(email, '@', 2), {due}, %(mw_expires)s, 0, '', ''
FROM fresh
"""


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to write; `refusal` says why it is not sent, or is empty."""

    id: uuid.UUID
    recipient: str
    name: str
    variables: str  # JSON
    domain: str
    refusal: str = ""
    contact_id: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class NewContent:
    """The content of a request's messages; the fields are those of `MessageContent`."""

    id: uuid.UUID
    domain_id: uuid.UUID
    from_email: str
    compiled: Mapping[str, Any]
    from_name: str = ""
    reply_to: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    attachments: Sequence[Mapping[str, str]] = ()
    track_opens: bool = False
    track_clicks: bool = False


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the messages of one request have in common."""

    tenant_id: uuid.UUID
    batch_id: uuid.UUID
    stream: str
    tags: list[str]
    metadata: str  # JSON
    now: dt.datetime
    due_at: dt.datetime
    ttl_seconds: int | None = None  # how long they are of use, from `due_at`


def schedule_for(stream: str) -> Schedule:
    """Return how patient the stream is; in a rehearsal minutes stand for days."""
    is_rehearsal = settings.RETRY_PROFILE == "rehearsal"
    return SCHEDULES["rehearsal" if is_rehearsal else stream]


def expires_at_for(stream: str, due_at: dt.datetime, ttl_seconds: int | None = None) -> dt.datetime:
    """Return when a message of `stream` that is due at `due_at` is given up."""
    return expiry(due_at, schedule_for(stream), ttl_seconds=ttl_seconds)


def insert_messages(
    envelope: Envelope, content: NewContent, messages: Sequence[NewMessage]
) -> None:
    """Write a content, its messages and the queue entries of those to be sent, in one statement."""
    is_later = envelope.due_at > envelope.now
    with connection.cursor() as cursor:
        cursor.execute(
            _INSERT,
            {
                "messages": _json([_row(message) for message in messages]),
                "tenant": envelope.tenant_id,
                "batch": envelope.batch_id,
                "content": content.id,
                "domain": content.domain_id,
                "from_name": content.from_name,
                "from_email": content.from_email,
                "reply_to": content.reply_to,
                "compiled": _json(content.compiled),
                "headers": _json(content.headers),
                "attachments": _json(content.attachments),
                "track_opens": content.track_opens,
                "track_clicks": content.track_clicks,
                "stream": envelope.stream,
                "tags": envelope.tags,
                "metadata": envelope.metadata,
                "now": envelope.now,
                "due": envelope.due_at,
                "expires": expires_at_for(envelope.stream, envelope.due_at, envelope.ttl_seconds),
                "reason": "Scheduled by the sender." if is_later else "",
            },
        )


def _row(message: NewMessage) -> dict[str, object]:
    return {
        "id": message.id,
        "recipient": message.recipient,
        "name": message.name,
        "variables": orjson.Fragment(message.variables),
        "domain": message.domain,
        "refusal": message.refusal,
        "contact_id": message.contact_id,
    }


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def insert_messages_from_select(
    *,
    batch: Batch,
    content_id: uuid.UUID,
    span: MessageSpan,
    select: str,
    params: Mapping[str, Any],
    now: dt.datetime,
    due_at: dt.datetime | None = None,
    later: str = "",
) -> int:
    """Make messages of a batch from a SELECT, with ids of `span`; return how many.

    `select` yields `contact_id uuid, email text` (normalised: the domain as A-labels), `first_name
    text, last_name text, variables jsonb` (besides these three, see `filling`), one row a contact,
    with named `params` (none begins with `mw_`); a literal percent sign is `%%`. That no contact
    gets two is the caller's part: each chunk selects contacts that none before did, and commits its
    cursor together with the messages. `later` is an interval in SQL that is added to `due_at`; it
    may use `contact_id`. Nothing is inserted (0) once the batch is cancelled or done: the batch's
    row is locked until the caller's transaction ends, shared with other chunks, against a cancel at
    the same time.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM sending_batch WHERE id = %s AND status IN ('running', 'paused') "
            "FOR SHARE",
            [batch.pk],
        )
        if cursor.fetchone() is None:
            return 0
        due_at = due_at or now
        due = f"%(mw_due)s::timestamptz + {later}" if later else "%(mw_due)s::timestamptz"
        cursor.execute(f"SET LOCAL work_mem = '{_CHUNK_MEMORY}'")
        cursor.execute(
            _INSERT_FROM_SELECT.format(select=select, slot=_SLOT, slot_id=_SLOT_ID, due=due),
            {
                **params,
                "mw_us": span.base_us,
                "mw_slots": span.slots,
                "mw_tenant": batch.tenant_id,
                "mw_batch": batch.pk,
                "mw_content": content_id,
                "mw_stream": batch.stream,
                "mw_now": now,
                "mw_due": due_at,
                "mw_expires": expires_at_for(batch.stream, due_at),
            },
        )
        made: int = cursor.rowcount
    key = StatKey(
        tenant_id=batch.tenant_id,
        batch_id=batch.pk,
        hour=hour_of(now),
        site="",
        kind=EventKind.ACCEPTED,
    )
    add_counts({key: made})
    return made


# Leased entries stay: their worker is talking to a server, and its result is written first. What
# was leased is cleared by a later round, when the lease has ended. By order and by arrays of keys,
# whatever the planner believes: a chunk must not cost a walk through all messages.
_CLEAR_CANCELLED = """
WITH chosen AS (
    SELECT message_id FROM sending_queueentry
    WHERE batch_id = %(batch)s AND (worker = '' OR due_at <= %(now)s)
    ORDER BY due_at LIMIT %(size)s FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM sending_queueentry WHERE message_id = ANY(ARRAY(SELECT message_id FROM chosen))
    RETURNING message_id
), changed AS (
    UPDATE sending_message SET status = 'cancelled', final_at = %(now)s
    WHERE id = ANY(ARRAY(SELECT message_id FROM gone)) AND status IN ('queued', 'deferred')
    RETURNING id, tenant_id, contact_id, recipient, site
), logged AS (
    INSERT INTO sending_event
        (id, tenant_id, kind, at, message_id, batch_id, contact_id, recipient, site, is_machine,
         detail)
    SELECT {uuid7}, tenant_id, 'cancelled', %(now)s, id, %(batch)s, contact_id, recipient, site,
           false, '{{}}'
    FROM changed
)
SELECT (SELECT count(*) FROM gone), site, count(changed.id)
FROM changed GROUP BY site
UNION ALL SELECT (SELECT count(*) FROM gone), '', 0
"""


def clear_cancelled_chunk(batch: Batch, *, now: dt.datetime, size: int = 5000) -> int:
    """Take up to `size` messages of a cancelled batch off the queue; return how many were taken."""
    with connection.cursor() as cursor:
        cursor.execute(
            _CLEAR_CANCELLED.format(uuid7=UUID7_SQL), {"batch": batch.pk, "now": now, "size": size}
        )
        rows = cursor.fetchall()
    add_counts(
        {
            StatKey(batch.tenant_id, batch.pk, hour_of(now), site, EventKind.CANCELLED): count
            for _, site, count in rows
            if count
        }
    )
    return int(rows[-1][0])
