"""The import's SQL: a batch goes by COPY into a temporary table, and is written in one statement.

The statement looks every staged row up once (contact, subscription, suppression) and writes from
what it found. It is idempotent: a batch that is repeated after a crash changes nothing more.

Its plan must not depend on statistics: a new installation has none, and those of a table that has
just begun to grow are wrong. A plan that looks harmless for ten rows walks the tenant's contacts or
the list for each staged row (batches of 5,000 took 0.2, 4.6 and 9.5 seconds, then minutes). So:
- Each look-up is a subquery of its own, asked row by row, for the first row of a range that holds
  one key, in the order of the key; and sorting is off (`prepare_transaction`). Only the index over
  tenant and address, or list and contact, has that order. By equality any index that begins with
  the tenant or the list would do, and costs the same where these count as one row.
- What is written to known contacts finds them by ON CONFLICT, which names its index; there is no
  join in the statement that could be turned round.
- The session's kept plans are dropped before each batch. The check of a foreign key keeps its plan;
  made while a table has a page, it reads the whole table for each row, at whatever size.

One id serves as the key of the contact, of the subscription and of its first change: they are keys
of three tables.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from django.db import connection

_STAGE: Final = """
CREATE TEMPORARY TABLE IF NOT EXISTS import_stage (
  id uuid, email text, email_norm text, first_name text, last_name text, attributes jsonb,
  tenant_id uuid, list_id uuid
) ON COMMIT DELETE ROWS
"""

# A commit need not wait for the disk: the place in the file is part of the same transaction, so a
# batch that a crash of the server takes back is simply done again. The import's last change, its
# status, is committed with waiting, and what was committed before it is on disk by then too.
_SETTINGS: Final = """
SET LOCAL enable_sort = off; SET LOCAL jit = off; SET LOCAL synchronous_commit = off;
DISCARD PLANS;
"""

_FOUND: Final = """
WITH found AS MATERIALIZED (
  SELECT stage.*, c.id AS contact_id, s.status, p.blocked,
    (stage.first_name <> '' AND stage.first_name <> c.first_name)
      OR (stage.last_name <> '' AND stage.last_name <> c.last_name)
      OR NOT c.attributes @> stage.attributes AS differs
  FROM import_stage stage
  LEFT JOIN LATERAL (
    SELECT id, first_name, last_name, attributes FROM sending_contact
    WHERE tenant_id = stage.tenant_id AND email_norm BETWEEN stage.email_norm AND stage.email_norm
    ORDER BY email_norm LIMIT 1
  ) c ON true
  LEFT JOIN LATERAL (
    SELECT status FROM sending_subscription
    WHERE contact_list_id = stage.list_id AND contact_id BETWEEN c.id AND c.id
    ORDER BY contact_id LIMIT 1
  ) s ON true
  LEFT JOIN LATERAL (
    SELECT true AS blocked FROM sending_suppression
    WHERE tenant_id = stage.tenant_id AND email_norm BETWEEN stage.email_norm AND stage.email_norm
    ORDER BY email_norm LIMIT 1
  ) p ON true
)
"""

_INSERT: Final = """, made AS (
  INSERT INTO sending_contact (id, tenant_id, email, email_norm, first_name, last_name, attributes,
                               created_at, updated_at)
  SELECT id, tenant_id, email, email_norm, first_name, last_name, attributes, now(), now()
  FROM found WHERE contact_id IS NULL
  ON CONFLICT (tenant_id, email_norm) DO NOTHING
  RETURNING 1
)
"""

# An empty cell keeps what is known. A row that changes nothing is not written again.
# Who is deleted in this very moment is made anew, as by a file that came after it.
_UPDATE: Final = """, updated AS (
  INSERT INTO sending_contact AS c (id, tenant_id, email, email_norm, first_name, last_name,
                                    attributes, created_at, updated_at)
  SELECT id, tenant_id, email, email_norm, first_name, last_name, attributes, now(), now()
  FROM found WHERE differs
  ON CONFLICT (tenant_id, email_norm) DO UPDATE SET
    first_name = COALESCE(NULLIF(EXCLUDED.first_name, ''), c.first_name),
    last_name = COALESCE(NULLIF(EXCLUDED.last_name, ''), c.last_name),
    attributes = c.attributes || EXCLUDED.attributes,
    updated_at = now()
  RETURNING 1
)
"""

# Only who has no subscription here gets one: nobody who left is brought back, and who has not
# confirmed is not confirmed by a file.
_SUBSCRIBE: Final = """, subscribed AS (
  INSERT INTO sending_subscription (id, tenant_id, contact_id, contact_list_id, status, source,
                                    created_at, updated_at)
  SELECT id, tenant_id, COALESCE(contact_id, id), list_id, 'subscribed', %(source)s, now(), now()
  FROM found WHERE status IS NULL AND blocked IS NULL
  ON CONFLICT (contact_list_id, contact_id) DO NOTHING
  RETURNING id
), noted AS (
  INSERT INTO sending_subscriptionchange (id, tenant_id, subscription_id, at, status, source,
                                          consent_text, user_agent)
  SELECT id, %(tenant)s, id, now(), 'subscribed', %(source)s, %(consent)s, '' FROM subscribed
)
"""

_COUNT: Final = """
SELECT count(*) FILTER (WHERE contact_id IS NULL),
       count(*) FILTER (WHERE contact_id IS NOT NULL),
       count(*) FILTER (WHERE status = 'subscribed'),
       count(*) FILTER (WHERE status = 'unsubscribed'),
       count(*) FILTER (WHERE status = 'unconfirmed'),
       count(*) FILTER (WHERE blocked AND status IS NULL),
       {made}, {updated}, {subscribed}
FROM found
"""


class Raced(Exception):
    """Somebody else added one of the batch's contacts meanwhile: do the batch again."""


@dataclass(frozen=True)
class BatchTarget:
    """Where a batch goes: tenant, list (or None), what to do with known contacts, the consent."""

    tenant_id: uuid.UUID
    list_id: uuid.UUID | None
    updates: bool
    source: str
    consent_text: str

    def parameters(self) -> dict[str, Any]:
        return {
            "tenant": self.tenant_id,
            "source": self.source,
            "consent": self.consent_text,
        }


@dataclass(frozen=True)
class BatchCounts:
    """How many rows of a batch are new or known, what becomes of them, and what was written."""

    new: int
    known: int
    on_list: int
    unsubscribed: int
    unconfirmed: int
    suppressed: int
    made: int
    updated: int
    subscribed: int


def prepare_transaction() -> None:
    """Make the connection's temporary table and settle how this transaction is planned."""
    with connection.cursor() as cursor:
        cursor.execute(_STAGE)
        cursor.execute(_SETTINGS)


def stage(lines: Iterable[str], target: BatchTarget) -> None:
    """Put rows (`CleanRow.copy_line`) into the emptied temporary table by COPY."""
    null = "\\N"
    tail = f"\t{target.tenant_id}\t{target.list_id or null}\n"
    data = tail.join([*lines, ""]).encode()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM import_stage")  # what an outer transaction left there
    with (
        connection.cursor() as cursor,
        cursor.copy(
            "COPY import_stage (id, email, email_norm, first_name, last_name, attributes, "
            "tenant_id, list_id) FROM STDIN"
        ) as copy,
    ):
        copy.write(data)


def foresee(target: BatchTarget) -> BatchCounts:
    """Count what the staged rows would change; nothing is written."""
    return _execute(_FOUND + _COUNT.format(made="0", updated="0", subscribed="0"), target)


def write(target: BatchTarget) -> BatchCounts:
    """Write the staged rows and count; raises Raced, and the transaction must be given up."""
    parts, counted = [_FOUND, _INSERT], {"updated": "0", "subscribed": "0"}
    if target.updates:
        parts.append(_UPDATE)
        counted["updated"] = "(SELECT count(*) FROM updated)"
    if target.list_id is not None:
        parts.append(_SUBSCRIBE)
        counted["subscribed"] = "(SELECT count(*) FROM subscribed)"
    parts.append(_COUNT.format(made="(SELECT count(*) FROM made)", **counted))
    counts = _execute("".join(parts), target)
    if counts.made < counts.new:
        raise Raced
    return counts


def _execute(statement: str, target: BatchTarget) -> BatchCounts:
    with connection.cursor() as cursor:
        cursor.execute(statement, target.parameters())
        row = cursor.fetchone()
    return BatchCounts(*row)
