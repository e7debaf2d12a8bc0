"""Finds messages in the log: a tenant's newest, a batch's in order, those to an address.

Two kinds of rows (`spans`): what came one by one is found by its indexes, what was made by parts by
the spans' ranges of the primary key. Both are walked from the end that is asked for, and no further
than the limit. Only keys are chosen here; rows are read by their keys.
"""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Final

from django.db import connection

from esp.lib.ids import lower_bound
from sending.messages.spans import ID_SQL, SLOT_SQL

_FIRST, _LAST = uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """What a list of messages is narrowed to; empty fields do not narrow."""

    status: str = ""
    recipient: str = ""  # normalised
    tag: str = ""
    batch_id: uuid.UUID | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None


# {order} is DESC or ASC. The spans come in order, and do not overlap: one after the other is read
# until there are enough. Of each the lateral part takes no more than the limit either.
_FIND: Final = """
WITH single AS {kept} (
    SELECT id FROM sending_message
    WHERE NOT is_spanned AND tenant_id = %(tenant)s AND id > %(above)s AND id < %(below)s
          {narrowed} {by_address}
    {until_enough}
), spanned AS (
    SELECT message.id
    FROM (
        SELECT * FROM sending_messagespan
        WHERE tenant_id = %(tenant)s AND last_id > %(above)s AND first_id < %(below)s {of_batch}
        ORDER BY last_id {order}
    ) span
    CROSS JOIN LATERAL (
        SELECT id FROM sending_message
        WHERE is_spanned AND batch_id = span.batch_id
              AND id >= {span_first} AND id <= {span_last}
              AND id > %(above)s AND id < %(below)s {narrowed}
        ORDER BY id {order} LIMIT %(limit)s
    ) message
    ORDER BY span.last_id {order}, message.id {order} LIMIT %(limit)s
)
SELECT id FROM (SELECT id FROM single UNION ALL SELECT id FROM spanned) found
ORDER BY id {order} LIMIT %(limit)s
"""
_SLOT_US: Final = f"(span.base_us + {SLOT_SQL})".format(
    address="%(recipient)s::text", slots="span.slots"
)
_SLOT_FIRST: Final = ID_SQL.format(us=_SLOT_US, tail="'8000000000000000'")
_SLOT_LAST: Final = ID_SQL.format(us=_SLOT_US, tail="'ffffffffffffffff'")


def find_keys(
    tenant_id: uuid.UUID,
    chosen: MessageFilter,
    *,
    below: uuid.UUID | None = None,
    above: uuid.UUID | None = None,
    limit: int,
) -> list[uuid.UUID]:
    """Return keys of the tenant's messages, newest first; with `above` the next newer, rising."""
    bounds = [above or _FIRST, below or _LAST]
    if chosen.since is not None:
        before = uuid.UUID(int=lower_bound(chosen.since).int - 1)  # bounds are exclusive
        bounds[0] = max(bounds[0], before)
    if chosen.until is not None:
        bounds[1] = min(bounds[1], lower_bound(chosen.until))
    with connection.cursor() as cursor:
        cursor.execute(
            _sql(chosen, order="DESC" if above is None else "ASC"),
            {
                "tenant": tenant_id,
                "above": bounds[0],
                "below": bounds[1],
                "limit": limit,
                "status": chosen.status,
                "recipient": chosen.recipient,
                "tags": [chosen.tag],
                "batch": chosen.batch_id,
            },
        )
        return [row[0] for row in cursor.fetchall()]


def _sql(chosen: MessageFilter, *, order: str) -> str:
    narrowed = []
    if chosen.batch_id is not None:
        narrowed.append("AND batch_id = %(batch)s")
    if chosen.status:
        narrowed.append("AND status = %(status)s")
    if chosen.tag:
        narrowed.append("AND tags @> %(tags)s::varchar[]")
    if chosen.recipient:
        narrowed.append("AND recipient = %(recipient)s")
    return _FIND.format(
        order=order,
        narrowed=" ".join(narrowed),
        of_batch="AND batch_id = %(batch)s" if chosen.batch_id is not None else "",
        # All to one address, then sorted: asked for the newest of them, the planner may walk all
        # that the tenant ever sent, back from the newest.
        kept="MATERIALIZED" if chosen.recipient else "",
        by_address="AND hashtext(recipient) = hashtext(%(recipient)s)" if chosen.recipient else "",
        until_enough="" if chosen.recipient else f"ORDER BY id {order} LIMIT %(limit)s",
        span_first=_SLOT_FIRST if chosen.recipient else "span.first_id",
        span_last=_SLOT_LAST if chosen.recipient else "span.last_id",
    )


# Messages of the batch %(batch)s behind the key %(after)s in rising order, %(rows)s at most; {also}
# is a further condition. By (batch, id), and by the batch's spans.
BATCH_WALK_SQL: Final = """
SELECT * FROM (
    (SELECT {columns} FROM sending_message
     WHERE NOT is_spanned AND batch_id = %(batch)s AND id > %(after)s {also}
     ORDER BY id LIMIT %(rows)s)
    UNION ALL
    (SELECT message.*
     FROM (SELECT first_id, last_id FROM sending_messagespan
           WHERE batch_id = %(batch)s AND last_id > %(after)s ORDER BY last_id) span
     CROSS JOIN LATERAL (
         SELECT {columns} FROM sending_message
         WHERE is_spanned AND batch_id = %(batch)s AND id > %(after)s
               AND id >= span.first_id AND id <= span.last_id {also}
         ORDER BY id LIMIT %(rows)s) message
     ORDER BY span.last_id, message.id LIMIT %(rows)s)
) walked ORDER BY id LIMIT %(rows)s
"""


def next_batch_keys(
    batch_id: uuid.UUID, *, after: uuid.UUID = _FIRST, limit: int
) -> list[uuid.UUID]:
    """Return the keys of a batch's messages behind `after`, rising."""
    with connection.cursor() as cursor:
        cursor.execute(
            BATCH_WALK_SQL.format(columns="id", also=""),
            {"batch": batch_id, "after": after, "rows": limit},
        )
        return [row[0] for row in cursor.fetchall()]
