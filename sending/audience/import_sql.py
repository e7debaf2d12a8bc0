"""The import's SQL: a batch goes by COPY into a temporary table, and set-based from there on.

Every statement is idempotent: a batch that is repeated after a crash changes nothing more.

Tenant and list stand in the staged rows, although they are the same in all of them: compared with
a constant, a tenant that the statistics do not know yet counts as one row, and the planner then
walks all of its contacts for each staged row (measured: a batch of 5,000 took minutes).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from django.db import connection

from esp.lib.ids import new_id
from sending.audience.import_rows import CleanRow

_STAGE: Final = """
CREATE TEMPORARY TABLE IF NOT EXISTS import_stage (
  id uuid, subscription_id uuid, change_id uuid, email text, email_norm text,
  first_name text, last_name text, attributes jsonb, tenant_id uuid, list_id uuid
)
"""

_INSERT_CONTACTS: Final = """
INSERT INTO sending_contact (id, tenant_id, email, email_norm, first_name, last_name, attributes,
                             created_at, updated_at)
SELECT id, %(tenant)s, email, email_norm, first_name, last_name, attributes, now(), now()
FROM import_stage
ON CONFLICT (tenant_id, email_norm)
"""

# An empty cell keeps what is known. A row that changes nothing is not written again.
_DO_UPDATE: Final = """
DO UPDATE SET
  first_name = COALESCE(NULLIF(EXCLUDED.first_name, ''), sending_contact.first_name),
  last_name = COALESCE(NULLIF(EXCLUDED.last_name, ''), sending_contact.last_name),
  attributes = sending_contact.attributes || EXCLUDED.attributes,
  updated_at = now()
WHERE (EXCLUDED.first_name <> '' AND EXCLUDED.first_name <> sending_contact.first_name)
   OR (EXCLUDED.last_name <> '' AND EXCLUDED.last_name <> sending_contact.last_name)
   OR NOT sending_contact.attributes @> EXCLUDED.attributes
"""

# What the batch means, before anything is written: used by the dry run and the run alike.
_FORESEE: Final = """
SELECT count(*) FILTER (WHERE c.id IS NULL),
       count(*) FILTER (WHERE c.id IS NOT NULL),
       count(*) FILTER (WHERE s.status = 'subscribed'),
       count(*) FILTER (WHERE s.status = 'unsubscribed'),
       count(*) FILTER (WHERE s.status = 'unconfirmed'),
       count(*) FILTER (WHERE p.blocked AND s.id IS NULL)
FROM import_stage stage
LEFT JOIN sending_contact c ON c.tenant_id = stage.tenant_id AND c.email_norm = stage.email_norm
LEFT JOIN sending_subscription s ON s.contact_list_id = stage.list_id AND s.contact_id = c.id
LEFT JOIN LATERAL (SELECT true AS blocked FROM sending_suppression p
  WHERE p.tenant_id = stage.tenant_id AND p.email_norm = stage.email_norm LIMIT 1) p ON true
"""

# Only who has no subscription here gets one: nobody who left is brought back, and who has not
# confirmed is not confirmed by a file.
_SUBSCRIBE: Final = """
WITH made AS (
  INSERT INTO sending_subscription (id, tenant_id, contact_id, contact_list_id, status, source,
                                    created_at, updated_at)
  SELECT stage.subscription_id, %(tenant)s, c.id, %(list)s, 'subscribed', %(source)s, now(), now()
  FROM import_stage stage
  JOIN sending_contact c ON c.tenant_id = stage.tenant_id AND c.email_norm = stage.email_norm
  WHERE NOT EXISTS (SELECT 1 FROM sending_suppression p
    WHERE p.tenant_id = stage.tenant_id AND p.email_norm = stage.email_norm)
  ON CONFLICT (contact_list_id, contact_id) DO NOTHING
  RETURNING id
)
INSERT INTO sending_subscriptionchange (id, tenant_id, subscription_id, at, status, source,
                                        consent_text, user_agent)
SELECT stage.change_id, %(tenant)s, made.id, now(), 'subscribed', %(source)s, %(consent)s, ''
FROM made JOIN import_stage stage ON stage.subscription_id = made.id
"""


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
            "list": self.list_id,
            "source": self.source,
            "consent": self.consent_text,
        }


@dataclass(frozen=True)
class BatchCounts:
    """How many rows of a batch are new or known, and what becomes of their subscriptions."""

    new: int
    known: int
    on_list: int
    unsubscribed: int
    unconfirmed: int
    suppressed: int


def prepare_connection() -> None:
    """Make the temporary table of this connection."""
    with connection.cursor() as cursor:
        cursor.execute(_STAGE)


def stage(rows: Sequence[CleanRow], target: BatchTarget) -> None:
    """Put rows into the emptied temporary table by COPY."""
    tenant, list_id = str(target.tenant_id), str(target.list_id) if target.list_id else None
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE import_stage")
    with (
        connection.cursor() as cursor,
        cursor.copy(
            "COPY import_stage (id, subscription_id, change_id, email, email_norm, first_name, "
            "last_name, attributes, tenant_id, list_id) FROM STDIN"
        ) as copy,
    ):
        for row in rows:
            copy.write_row(
                (
                    str(new_id()),
                    str(new_id()),
                    str(new_id()),
                    row.email,
                    row.email_norm,
                    row.first_name,
                    row.last_name,
                    orjson.dumps(row.attributes).decode() if row.attributes else "{}",
                    tenant,
                    list_id,
                )
            )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE import_stage")


def foresee(target: BatchTarget) -> BatchCounts:
    """Count what the staged rows would change."""
    with connection.cursor() as cursor:
        cursor.execute(_FORESEE, target.parameters())
        row = cursor.fetchone()
    return BatchCounts(*row)


def write(target: BatchTarget) -> tuple[int, int]:
    """Write the staged rows; return how many contacts were written and how many subscribed."""
    statement = _INSERT_CONTACTS + (_DO_UPDATE if target.updates else "DO NOTHING")
    with connection.cursor() as cursor:
        cursor.execute(statement, target.parameters())
        written = cursor.rowcount
        subscribed = 0
        if target.list_id is not None:
            cursor.execute(_SUBSCRIBE, target.parameters())
            subscribed = cursor.rowcount
    return written, subscribed
