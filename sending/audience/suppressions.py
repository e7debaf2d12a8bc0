"""Suppress addresses by sets; `services` has the single steps that people take."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection

from esp.lib.ids import new_id

# A suppression is never weakened or renamed: the first reason stays, whatever comes later.
_INSERT = """
INSERT INTO sending_suppression
    (id, tenant_id, email_norm, scope, reason, source, detail, created_at)
SELECT id, tenant_id, email_norm, scope, reason, source, detail, now()
FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])
     AS row (id, tenant_id, email_norm, scope, reason, source, detail)
ORDER BY tenant_id, email_norm, scope
ON CONFLICT (tenant_id, email_norm, scope) DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class SuppressionEntry:
    """An address to suppress: `scope` and `reason` as in `models.Suppression`."""

    tenant_id: uuid.UUID
    email_norm: str
    scope: str
    reason: str
    source: str = ""
    detail: str = ""


def suppress_many(entries: Sequence[SuppressionEntry]) -> int:
    """Add `entries` in the running transaction; return how many are new."""
    if not entries:
        return 0
    rows = [
        (
            new_id(),
            entry.tenant_id,
            entry.email_norm.lower(),  # the address as sent to keeps its case
            entry.scope,
            entry.reason,
            entry.source[:120],
            entry.detail[:500],
        )
        for entry in entries
    ]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [list(column) for column in zip(*rows, strict=True)])
        return int(cursor.rowcount)
