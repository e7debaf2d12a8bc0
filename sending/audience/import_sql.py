"""The import's SQL: a batch goes by COPY into a temporary table, and is written in one statement.

The statement looks every staged row up once (contact, subscription, suppression) and writes from
what it found. It is idempotent: a batch that is repeated after a crash changes nothing more.

Three things about its plan, all measured:
- Joins are nested loops over indexes (`prepare_transaction`). Left to itself the planner hashes the
  whole table of contacts for each batch, so that every further batch takes longer.
- Tenant and list stand in the staged rows, although they are the same in all of them: compared with
  a constant, a tenant that the statistics do not know yet counts as one row, and the planner then
  walks all of its contacts for each staged row (a batch of 5,000 took minutes).
- One id serves as the key of the contact, of the subscription and of its first change: they are
  keys of three tables.
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
SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL jit = off;
SET LOCAL synchronous_commit = off;
"""

_FOUND: Final = """
WITH found AS MATERIALIZED (
  SELECT stage.*, c.id AS contact_id, s.status, p.blocked
  FROM import_stage stage
  LEFT JOIN sending_contact c
    ON c.tenant_id = stage.tenant_id AND c.email_norm = stage.email_norm
  LEFT JOIN sending_subscription s
    ON s.contact_list_id = stage.list_id AND s.contact_id = c.id
  LEFT JOIN LATERAL (SELECT true AS blocked FROM sending_suppression p
    WHERE p.tenant_id = stage.tenant_id AND p.email_norm = stage.email_norm LIMIT 1) p ON true
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
_UPDATE: Final = """, updated AS (
  UPDATE sending_contact c SET
    first_name = COALESCE(NULLIF(found.first_name, ''), c.first_name),
    last_name = COALESCE(NULLIF(found.last_name, ''), c.last_name),
    attributes = c.attributes || found.attributes,
    updated_at = now()
  FROM found
  WHERE c.id = found.contact_id
    AND ((found.first_name <> '' AND found.first_name <> c.first_name)
      OR (found.last_name <> '' AND found.last_name <> c.last_name)
      OR NOT c.attributes @> found.attributes)
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
