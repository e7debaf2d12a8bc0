"""Finds messages in the log: a tenant's newest, a batch's in order, those to an address.

Two kinds of rows (`spans`): what came one by one is found by its indexes, what was made by parts by
the spans' ranges of the primary key. Both are walked from the end that is asked for, and no further
than the limit. Only keys are chosen here; rows are read by their keys.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

from django.db import connection

from esp.lib.ids import lower_bound
from sending.messages.spans import ID_SQL, SLOT_SQL

_FIRST, _LAST = uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)
_SPANS_AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """What a list of messages is narrowed to; empty fields do not narrow."""

    status: str = ""
    recipient: str = ""  # normalised
    tag: str = ""
    batch_id: uuid.UUID | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None


# What came one by one, by (tenant, id) or (batch, id).
_SINGLES: Final = """
SELECT id FROM sending_message
WHERE NOT is_spanned AND id > %(above)s AND id < %(below)s {of_tenant} {of_batch} {narrowed}
ORDER BY id {order} LIMIT %(limit)s
"""
# The few of a batch that has spans, by (batch, id) whatever the planner believes: it does not know
# that most of the batch is spanned, and by (tenant, id) it would pass all else of the tenant.
_SINGLES_BESIDE_SPANS: Final = """
SELECT id FROM sending_message
WHERE NOT is_spanned {of_tenant} {narrowed}
      AND (batch_id, id) > (%(batch)s, %(above)s) AND (batch_id, id) < (%(batch)s, %(below)s)
ORDER BY batch_id {order}, id {order} LIMIT %(limit)s
"""
_SPANS: Final = """
SELECT batch_id, first_id, last_id FROM sending_messagespan
WHERE last_id > %(above)s AND first_id < %(below)s {of_tenant} {of_batch}
ORDER BY last_id {order} LIMIT %(spans)s
"""
# With the span's ends as constants: joined with the spans, the planner may sort all of each.
_IN_SPAN: Final = """
SELECT id FROM sending_message
WHERE is_spanned AND batch_id = %(batch)s AND id >= %(first)s AND id <= %(last)s {narrowed}
ORDER BY id {order} LIMIT %(limit)s
"""
# All to one address, sorted afterwards: asked for the newest of them, the planner may walk all that
# the tenant ever sent, back from the newest. One slot of each span has a message or none.
_TO_ADDRESS: Final = """
WITH found AS MATERIALIZED (
    SELECT id FROM sending_message
    WHERE NOT is_spanned AND tenant_id = %(tenant)s AND recipient_key = hashtext(%(recipient)s)
          AND recipient = %(recipient)s AND id > %(above)s AND id < %(below)s {of_batch} {narrowed}
    UNION ALL
    SELECT message.id
    FROM (
        SELECT * FROM sending_messagespan
        WHERE tenant_id = %(tenant)s AND last_id > %(above)s AND first_id < %(below)s {of_batch}
    ) span
    CROSS JOIN LATERAL (
        SELECT id FROM sending_message
        WHERE is_spanned AND batch_id = span.batch_id AND recipient = %(recipient)s
              AND id >= {slot_first} AND id <= {slot_last}
              AND id > %(above)s AND id < %(below)s {narrowed}
        OFFSET 0  -- no join: each slot is looked up
    ) message
)
SELECT id FROM found ORDER BY id {order} LIMIT %(limit)s
"""
_SLOT_US: Final = f"(span.base_us + {SLOT_SQL})".format(
    address="%(recipient)s::text", slots="span.slots"
)
_SLOT_ENDS: Final = {
    "slot_first": ID_SQL.format(us=_SLOT_US, tail="'8000000000000000'"),
    "slot_last": ID_SQL.format(us=_SLOT_US, tail="'ffffffffffffffff'"),
}


@dataclass(slots=True)
class _Walk:
    """A walk along the ids between `above` and `below` (exclusive), falling or `is_rising`."""

    limit: int
    is_rising: bool
    above: uuid.UUID = _FIRST
    below: uuid.UUID = _LAST
    tenant_id: uuid.UUID | None = None  # None only for workers
    batch_id: uuid.UUID | None = None
    narrowed: str = ""
    params: dict[str, Any] = field(default_factory=dict)

    def ask(self, sql: str, **params: Any) -> list[tuple[Any, ...]]:
        """Return the rows of one of the statements above."""
        text = sql.format(
            order="ASC" if self.is_rising else "DESC",
            narrowed=self.narrowed,
            of_tenant="AND tenant_id = %(tenant)s" if self.tenant_id else "",
            of_batch="AND batch_id = %(batch)s" if self.batch_id else "",
            **_SLOT_ENDS,
        )
        given = {
            "tenant": self.tenant_id,
            "batch": self.batch_id,
            "above": self.above,
            "below": self.below,
            "limit": self.limit,
        }
        with connection.cursor() as cursor:
            cursor.execute(text, {**self.params, **given, **params})
            rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows

    def keys(self, sql: str, **params: Any) -> list[uuid.UUID]:
        """Return the first column of the rows."""
        return [row[0] for row in self.ask(sql, **params)]

    def spans(self) -> Iterator[tuple[uuid.UUID, uuid.UUID, uuid.UUID]]:
        """Yield (batch, first id, last id) of spans on the way, each cut off at its ends."""
        above, below = self.above, self.below
        while True:
            found = self.ask(_SPANS, above=above, below=below, spans=_SPANS_AT_ONCE)
            for batch_id, first, last in found:
                yield batch_id, max(first, _next(self.above)), min(last, _before(self.below))
            if len(found) < _SPANS_AT_ONCE:
                return
            if self.is_rising:
                above = found[-1][2]
            else:
                below = found[-1][1]

    def run(self, *, is_spanned: bool = True) -> list[uuid.UUID]:
        """Return keys of both kinds in order, `limit` at most."""
        spans = self.spans() if is_spanned else iter(())
        nearest = next(spans, None)
        is_beside = self.batch_id is not None and nearest is not None
        found = self.keys(_SINGLES_BESIDE_SPANS if is_beside else _SINGLES)
        for batch_id, first, last in chain([nearest] if nearest else [], spans):
            end = first if self.is_rising else last
            if len(found) >= self.limit and (found[-1] < end) == self.is_rising:
                break
            found += self.keys(_IN_SPAN, batch=batch_id, first=first, last=last)
            found = sorted(found, reverse=not self.is_rising)[: self.limit]
        return found


def find_keys(
    tenant_id: uuid.UUID,
    chosen: MessageFilter,
    *,
    below: uuid.UUID | None = None,
    above: uuid.UUID | None = None,
    limit: int,
) -> list[uuid.UUID]:
    """Return keys of the tenant's messages, newest first; with `above` the next newer, rising."""
    narrowed = []
    if chosen.status:
        narrowed.append("AND status = %(status)s")
    if chosen.tag:
        narrowed.append("AND tags @> %(tags)s::varchar[]")
    walk = _Walk(
        limit=limit,
        is_rising=above is not None,
        above=above or _FIRST,
        below=below or _LAST,
        tenant_id=tenant_id,
        batch_id=chosen.batch_id,
        narrowed=" ".join(narrowed),
        params={"status": chosen.status, "tags": [chosen.tag], "recipient": chosen.recipient},
    )
    if chosen.since is not None:
        walk.above = max(walk.above, _before(lower_bound(chosen.since)))
    if chosen.until is not None:
        walk.below = min(walk.below, lower_bound(chosen.until))
    if chosen.recipient:
        return walk.keys(_TO_ADDRESS)
    return walk.run(is_spanned=not chosen.tag)  # what is made by parts has no tags


def next_batch_keys(
    batch_id: uuid.UUID, *, after: uuid.UUID = _FIRST, limit: int, is_waiting: bool = False
) -> list[uuid.UUID]:
    """Return the keys of a batch's messages behind `after`, rising; of any tenant's, for workers.

    With `is_waiting` only those that are not final.
    """
    return _Walk(
        limit=limit,
        is_rising=True,
        above=after,
        batch_id=batch_id,
        narrowed="AND status IN ('queued', 'deferred')" if is_waiting else "",
    ).run()


def _next(key: uuid.UUID) -> uuid.UUID:
    return uuid.UUID(int=min(key.int + 1, _LAST.int))


def _before(key: uuid.UUID) -> uuid.UUID:
    return uuid.UUID(int=max(key.int - 1, 0))
