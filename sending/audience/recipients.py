"""Whom a campaign reaches: sets in SQL, because an audience may be millions.

A contact is on the chosen lists once, however many of them hold it; it is a recipient when at
least one of them holds it as subscribed, no excluded list holds it (in any status), it is not
suppressed for marketing mail, and its address has the shape of one.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Final

from django.db import connection

from sending.audience.attributes import KEPT_SQL, VARIABLES_SQL
from sending.audience.types import AudienceCount

_VALID: Final = r"c.email_norm ~ '^[^@\s]+@[^@\s]+\.[^@\s]+$'"
_SUPPRESSED: Final = (
    "EXISTS (SELECT 1 FROM sending_suppression p WHERE p.tenant_id = c.tenant_id "
    "AND p.email_norm = c.email_norm)"
)
_EXCLUDED: Final = (
    "EXISTS (SELECT 1 FROM sending_subscription x WHERE x.contact_id = c.id "
    "AND x.contact_list_id = ANY(%(excluded)s))"
)

# The strongest word about an address first: all mail before marketing mail.
_COUNT: Final = f"""
WITH place AS (
  SELECT s.contact_id, count(*) AS places,
         bool_or(s.status = 'subscribed') AS subscribed,
         bool_or(s.status = 'unconfirmed') AS unconfirmed
  FROM sending_subscription s
  WHERE s.tenant_id = %(tenant)s AND s.contact_list_id = ANY(%(lists)s)
  GROUP BY s.contact_id
), blocked AS (
  SELECT DISTINCT ON (email_norm) email_norm, reason FROM sending_suppression
  WHERE tenant_id = %(tenant)s ORDER BY email_norm, scope
), off AS (
  SELECT DISTINCT contact_id FROM sending_subscription
  WHERE tenant_id = %(tenant)s AND contact_list_id = ANY(%(excluded)s)
), sorted AS (
  SELECT place.places, CASE
    WHEN NOT place.subscribed AND place.unconfirmed THEN 'unconfirmed'
    WHEN NOT place.subscribed THEN 'unsubscribed'
    WHEN off.contact_id IS NOT NULL THEN 'excluded'
    WHEN blocked.reason IS NOT NULL THEN 'suppressed:' || blocked.reason
    WHEN NOT {_VALID} THEN 'invalid'
    ELSE 'recipients' END AS bucket
  FROM place
  JOIN sending_contact c ON c.id = place.contact_id AND c.tenant_id = %(tenant)s
  LEFT JOIN off ON off.contact_id = place.contact_id
  LEFT JOIN blocked ON blocked.email_norm = c.email_norm
)
SELECT bucket, count(*), sum(places)::bigint FROM sorted GROUP BY bucket
"""  # noqa: S608 (parts are constants of this module)

_IS_RECIPIENT: Final = f"{_VALID} AND NOT {_SUPPRESSED}"


def count_audience(
    *,
    tenant_id: uuid.UUID,
    list_ids: Sequence[uuid.UUID],
    excluded_list_ids: Sequence[uuid.UUID] = (),
) -> AudienceCount:
    """Count the contacts on the lists, each in exactly one bucket of `AudienceCount`."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, _params(tenant_id, list_ids, excluded_list_ids))
        found = cursor.fetchall()
    buckets = {str(bucket): int(count) for bucket, count, _ in found}
    contacts = sum(buckets.values())
    reasons = {
        bucket.partition(":")[2]: count
        for bucket, count in buckets.items()
        if bucket.startswith("suppressed:")
    }
    return AudienceCount(
        on_lists=contacts,
        duplicates=sum(int(places) for _, _, places in found) - contacts,
        unconfirmed=buckets.get("unconfirmed", 0),
        unsubscribed=buckets.get("unsubscribed", 0),
        excluded=buckets.get("excluded", 0),
        suppressed=sum(reasons.values()),
        suppressed_by_reason=reasons,
        invalid=buckets.get("invalid", 0),
        recipients=buckets.get("recipients", 0),
    )


# The nearest of the lists' own bounds: no list has more than its part before it.
_NEXT_BOUND: Final = """
WITH near AS (
  SELECT (SELECT s.contact_id FROM sending_subscription s
          WHERE s.contact_list_id = chosen.id AND s.status = 'subscribed'
            AND s.contact_id > %(after)s
          ORDER BY s.contact_id OFFSET %(part)s - 1 LIMIT 1) AS bound
  FROM unnest(%(lists)s::uuid[]) AS chosen (id)
)
SELECT bound FROM near WHERE bound IS NOT NULL ORDER BY bound LIMIT 1
"""
# Every list has less than its part left.
_LAST_BOUND: Final = """
SELECT last.contact_id FROM unnest(%(lists)s::uuid[]) AS chosen (id)
CROSS JOIN LATERAL (
  SELECT s.contact_id FROM sending_subscription s
  WHERE s.contact_list_id = chosen.id AND s.status = 'subscribed' AND s.contact_id > %(after)s
  ORDER BY s.contact_id DESC LIMIT 1
) last
ORDER BY last.contact_id DESC LIMIT 1
"""


def next_bound(
    *, list_ids: Sequence[uuid.UUID], after: uuid.UUID | None, size: int
) -> uuid.UUID | None:
    """Return a contact so that about `size` subscribed ones are in (after, it]; None at the end.

    Never more than `size`, or than there are lists; exactly `size` of a single list. By the index
    (list, status, contact), the keys alone.
    """
    params: dict[str, Any] = {
        "lists": list(list_ids),
        "after": after or uuid.UUID(int=0),
        "part": max(1, size // max(1, len(list_ids))),
    }
    with connection.cursor() as cursor:
        cursor.execute(_NEXT_BOUND, params)
        row = cursor.fetchone()
        if row is None:
            cursor.execute(_LAST_BOUND, params)
            row = cursor.fetchone()
    return row[0] if row else None


_CHOSEN: Final = """
          SELECT DISTINCT s.contact_id FROM sending_subscription s
          WHERE s.contact_list_id = ANY(%(lists)s) AND s.status = 'subscribed'
            AND s.tenant_id = %(tenant)s
            AND s.contact_id > %(after)s AND s.contact_id <= %(until)s
"""
_ALL_CONTACTS: Final = f"""
        ({_CHOSEN}) chosen
        JOIN sending_contact c ON c.id = chosen.contact_id AND c.tenant_id = %(tenant)s
"""
# By an array of keys, whatever the planner believes of a table that has just grown: a chunk must
# not be joined with all contacts. From PostgreSQL 17 on it is one walk along the index, half the
# cost of looking each contact up. OFFSET 0 keeps the look-up as it is written.
_CHUNK_OF_CONTACTS: Final = f"""
        (
          SELECT * FROM sending_contact one
          WHERE one.tenant_id = %(tenant)s
            AND one.id = ANY ((SELECT array_agg(chosen.contact_id) FROM ({_CHOSEN}) chosen)::uuid[])
          OFFSET 0
        ) c
"""  # noqa: S608 (parts are constants of this module)


def recipients_select(
    *,
    tenant_id: uuid.UUID,
    list_ids: Sequence[uuid.UUID],
    excluded_list_ids: Sequence[uuid.UUID] = (),
    after: uuid.UUID | None = None,
    until: uuid.UUID | None = None,
) -> tuple[str, dict[str, Any]]:
    """Return (SQL, named params) that select recipients in (after, until], each contact once.

    Columns: contact_id uuid, email text (normalised, to send to), first_name text, last_name text,
    variables jsonb (all that templates know), kept jsonb (what a message keeps of it beside address
    and names). `until` is what `next_bound` returned; None means to the end.
    """
    select = f"""
        SELECT c.id AS contact_id, c.email_norm AS email, c.first_name, c.last_name,
               {VARIABLES_SQL} AS variables, {KEPT_SQL} AS kept
        FROM {_ALL_CONTACTS if until is None else _CHUNK_OF_CONTACTS}
        WHERE {_IS_RECIPIENT}{f" AND NOT {_EXCLUDED}" if excluded_list_ids else ""}
    """  # noqa: S608 (parts are constants of this module)
    params = _params(tenant_id, list_ids, excluded_list_ids)
    params["after"] = after or uuid.UUID(int=0)
    params["until"] = until or uuid.UUID(int=2**128 - 1)
    return select, params


def missing_field_counts(
    *,
    tenant_id: uuid.UUID,
    list_ids: Sequence[uuid.UUID],
    excluded_list_ids: Sequence[uuid.UUID] = (),
    fields: Sequence[str],
) -> dict[str, int]:
    """Return for each field of `fields` how many recipients lack it (absent, null or empty)."""
    if not fields:
        return {}
    select, params = recipients_select(
        tenant_id=tenant_id, list_ids=list_ids, excluded_list_ids=excluded_list_ids
    )
    columns, names = [], list(dict.fromkeys(fields))
    for index, name in enumerate(names):
        params[f"field_{index}"] = name
        columns.append(
            f"count(*) FILTER (WHERE COALESCE(r.variables ->> %(field_{index})s, '') = '')"
        )
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(columns)} FROM ({select}) r", params)  # noqa: S608
        row = cursor.fetchone()
    return dict(zip(names, row, strict=True))


def _params(
    tenant_id: uuid.UUID, list_ids: Sequence[uuid.UUID], excluded: Sequence[uuid.UUID]
) -> dict[str, Any]:
    return {"tenant": tenant_id, "lists": list(list_ids), "excluded": list(excluded)}
