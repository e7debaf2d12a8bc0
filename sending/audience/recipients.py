"""Who of the chosen lists gets a campaign: counted for the review, selected for preparation.

Both read the same buckets, so that what the review promises is what preparation makes. A contact is
in the first bucket that fits: not subscribed on any chosen list (unconfirmed, unsubscribed), on an
excluded list, suppressed, without a usable address, else a recipient.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Final

from django.db import connection

from sending.audience.attributes import VARIABLES_SQL
from sending.audience.types import AudienceCount

_SUPPRESSED: Final = """
    SELECT suppression.email_norm, min(suppression.reason) AS reason
    FROM sending_suppression suppression
    WHERE suppression.tenant_id = %(tenant)s
    GROUP BY suppression.email_norm
"""

_COUNT: Final = f"""
WITH on_lists AS (
    SELECT contact_id, count(*) AS places,
           bool_or(status = 'subscribed') AS is_subscribed,
           bool_or(status = 'unconfirmed') AS is_unconfirmed
    FROM sending_subscription
    WHERE tenant_id = %(tenant)s AND contact_list_id = ANY(%(lists)s)
    GROUP BY contact_id
), excluded AS (
    SELECT DISTINCT contact_id FROM sending_subscription
    WHERE tenant_id = %(tenant)s AND contact_list_id = ANY(%(excluded)s)
      AND status = 'subscribed'
), suppressed AS ({_SUPPRESSED}
), judged AS (
    SELECT on_lists.places, suppressed.reason,
           CASE WHEN NOT is_subscribed AND is_unconfirmed THEN 'unconfirmed'
                WHEN NOT is_subscribed THEN 'unsubscribed'
                WHEN excluded.contact_id IS NOT NULL THEN 'excluded'
                WHEN suppressed.reason IS NOT NULL THEN 'suppressed'
                WHEN strpos(contact.email_norm, '@') < 2 THEN 'invalid'
                ELSE 'recipients' END AS bucket
    FROM on_lists
    JOIN sending_contact contact ON contact.id = on_lists.contact_id
    LEFT JOIN excluded ON excluded.contact_id = on_lists.contact_id
    LEFT JOIN suppressed ON suppressed.email_norm = contact.email_norm
)
SELECT bucket, CASE WHEN bucket = 'suppressed' THEN reason END, count(*), sum(places - 1)
FROM judged GROUP BY 1, 2
"""  # noqa: S608 (the parts are the constants above)

_CHOSEN: Final = """
    SELECT DISTINCT subscription.contact_id FROM sending_subscription subscription
    WHERE subscription.contact_list_id = ANY(%(lists)s) AND subscription.status = 'subscribed'
      {bounds}
      AND NOT EXISTS (
          SELECT 1 FROM sending_subscription other
          WHERE other.contact_id = subscription.contact_id
            AND other.contact_list_id = ANY(%(excluded)s) AND other.status = 'subscribed')
"""

_NOT_SUPPRESSED: Final = """
    c.tenant_id = %(tenant)s AND strpos(c.email_norm, '@') >= 2
    AND NOT EXISTS (
        SELECT 1 FROM sending_suppression suppression
        WHERE suppression.tenant_id = %(tenant)s
          AND suppression.email_norm = c.email_norm)
"""


def count_audience(
    *,
    tenant_id: uuid.UUID,
    list_ids: Sequence[uuid.UUID],
    excluded_list_ids: Sequence[uuid.UUID],
) -> AudienceCount:
    """Count the contacts on the lists by what becomes of them, each once."""
    if not list_ids:
        return AudienceCount()
    with connection.cursor() as cursor:
        cursor.execute(
            _COUNT,
            {
                "tenant": tenant_id,
                "lists": list(list_ids),
                "excluded": list(excluded_list_ids),
            },
        )
        rows = cursor.fetchall()
    buckets: dict[str, int] = {}
    reasons: dict[str, int] = {}
    duplicates = 0
    for bucket, reason, count, further in rows:
        buckets[bucket] = buckets.get(bucket, 0) + count
        duplicates += int(further)
        if reason:
            reasons[reason] = reasons.get(reason, 0) + count
    return AudienceCount(
        on_lists=sum(buckets.values()),
        duplicates=duplicates,
        suppressed_by_reason=reasons,
        **buckets,
    )


def next_bound(
    *, list_ids: Sequence[uuid.UUID], after: uuid.UUID | None, size: int
) -> uuid.UUID | None:
    """Return the contact that ends the next chunk of about `size` places behind `after`.

    None when there is nobody behind it. The bound lies on the lists' own rows, before anybody is
    left out, so that every chunk costs the same.
    """
    after_sql = "AND contact_id > %(after)s" if after else ""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT contact_id FROM (
                SELECT contact_id FROM unnest(%(lists)s::uuid[]) AS chosen (list_id)
                CROSS JOIN LATERAL (
                    SELECT contact_id FROM sending_subscription
                    WHERE contact_list_id = chosen.list_id AND status = 'subscribed' {after_sql}
                    ORDER BY contact_id LIMIT %(size)s
                ) AS next_of_list
                ORDER BY contact_id LIMIT %(size)s
            ) AS next_of_all
            ORDER BY contact_id DESC LIMIT 1
            """,  # noqa: S608 (no value is put into the text)
            {"lists": list(list_ids), "after": after, "size": size},
        )
        row = cursor.fetchone()
    return row[0] if row else None


def recipients_select(
    *,
    tenant_id: uuid.UUID,
    list_ids: Sequence[uuid.UUID],
    excluded_list_ids: Sequence[uuid.UUID],
    after: uuid.UUID | None,
    until: uuid.UUID,
) -> tuple[str, dict[str, Any]]:
    """Return a SELECT with its parameters: contact_id, email, name, variables of the recipients
    whose contact lies behind `after` and not behind `until`."""
    bounds = "AND subscription.contact_id <= %(until)s"
    if after:
        bounds += " AND subscription.contact_id > %(after)s"
    select = f"""
        SELECT c.id AS contact_id, c.email_norm AS email,
               trim(c.first_name || ' ' || c.last_name) AS name,
               {VARIABLES_SQL} AS variables
        FROM ({_CHOSEN.format(bounds=bounds)}) AS chosen
        JOIN sending_contact c ON c.id = chosen.contact_id
        WHERE {_NOT_SUPPRESSED}
    """  # noqa: S608 (the parts are constants of this file)
    params: dict[str, Any] = {
        "tenant": tenant_id,
        "lists": list(list_ids),
        "excluded": list(excluded_list_ids),
        "until": until,
    }
    if after:
        params["after"] = after
    return select, params


def missing_field_counts(
    *,
    tenant_id: uuid.UUID,
    list_ids: Sequence[uuid.UUID],
    excluded_list_ids: Sequence[uuid.UUID],
    fields: Sequence[str],
) -> dict[str, int]:
    """Return for each of `fields` how many recipients have no value for it.

    `fields` are names as content uses them: first_name, last_name, email, or an attribute's key.
    """
    if not fields or not list_ids:
        return dict.fromkeys(fields, 0)
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH people AS MATERIALIZED (
                SELECT {VARIABLES_SQL} AS variables
                FROM ({_CHOSEN.format(bounds="")}) AS chosen
                JOIN sending_contact c ON c.id = chosen.contact_id
                WHERE {_NOT_SUPPRESSED}
            )
            SELECT field.name,
                   (SELECT count(*) FROM people
                    WHERE coalesce(trim(people.variables ->> field.name), '') = '')
            FROM unnest(%(fields)s::text[]) AS field (name)
            """,  # noqa: S608 (the parts are constants of this file)
            {
                "tenant": tenant_id,
                "lists": list(list_ids),
                "excluded": list(excluded_list_ids),
                "fields": list(fields),
            },
        )
        return dict(cursor.fetchall())
