"""Write the event log and the roll-ups beside it, set by set, in the caller's transaction.

The log knows messages by id only, so that the messages room above it can write its own facts.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson
from django.db import connection

from esp.lib.ids import new_id


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that happened to a message. `detail` is small: reply, class, link, user agent."""

    tenant_id: uuid.UUID
    message_id: uuid.UUID
    batch_id: uuid.UUID
    recipient: str
    kind: str  # an EventKind
    at: dt.datetime
    contact_id: uuid.UUID | None = None
    site: str = ""
    is_machine: bool = False
    detail: Mapping[str, object] = field(default_factory=dict)

    @property
    def stat_detail(self) -> str:
        """What the roll-up splits this kind by: bounces by class, opens and clicks by maker."""
        if "class" in self.detail:
            return str(self.detail["class"])[:40]
        return "machine" if self.is_machine else ""


@dataclass(frozen=True, slots=True)
class StatKey:
    """One cell of the roll-up."""

    tenant_id: uuid.UUID
    batch_id: uuid.UUID
    hour: dt.datetime
    site: str
    kind: str
    detail: str = ""


# Rows come as JSON: quoting a list for each column takes the program four times as long.
_ADD_STATS = """
INSERT INTO sending_statbucket (id, tenant_id, batch_id, hour, site, kind, detail, count)
SELECT * FROM json_to_recordset(%s) AS cell (
    id uuid, tenant_id uuid, batch_id uuid, hour timestamptz, site text, kind text, detail text,
    count bigint)
ON CONFLICT (batch_id, hour, site, kind, detail)
DO UPDATE SET count = sending_statbucket.count + EXCLUDED.count
"""

# The log's rows and their counts in one round trip.
_RECORD = f"""
WITH counted AS ({_ADD_STATS})
INSERT INTO sending_event
    (id, tenant_id, kind, at, message_id, batch_id, contact_id, recipient, site, is_machine, detail)
SELECT * FROM json_to_recordset(%s) AS fact (
    id uuid, tenant_id uuid, kind text, at timestamptz, message_id uuid, batch_id uuid,
    contact_id uuid, recipient text, site text, is_machine bool, detail jsonb)
"""  # noqa: S608 (a constant of ours)


def record_facts(facts: Sequence[Fact]) -> None:
    """Append `facts` to the log and add them to the roll-ups, in the running transaction."""
    if not facts:
        return
    rows = [
        {
            "id": new_id(),
            "tenant_id": fact.tenant_id,
            "kind": fact.kind,
            "at": fact.at,
            "message_id": fact.message_id,
            "batch_id": fact.batch_id,
            "contact_id": fact.contact_id,
            "recipient": fact.recipient,
            "site": fact.site,
            "is_machine": fact.is_machine,
            "detail": fact.detail,
        }
        for fact in facts
    ]
    counts = _count_rows(Counter(stat_key(fact) for fact in facts))
    with connection.cursor() as cursor:
        cursor.execute(_RECORD, [orjson.dumps(counts).decode(), orjson.dumps(rows).decode()])


def stat_key(fact: Fact) -> StatKey:
    """Return the roll-up's cell that `fact` counts in."""
    return StatKey(
        tenant_id=fact.tenant_id,
        batch_id=fact.batch_id,
        hour=hour_of(fact.at),
        site=fact.site,
        kind=fact.kind,
        detail=fact.stat_detail,
    )


def hour_of(moment: dt.datetime) -> dt.datetime:
    """Return the beginning of the hour, in UTC."""
    return moment.astimezone(dt.UTC).replace(minute=0, second=0, microsecond=0)


def add_counts(counts: Mapping[StatKey, int]) -> None:
    """Add `counts` to the roll-ups, in the running transaction."""
    rows = _count_rows(counts)
    if not rows:
        return
    with connection.cursor() as cursor:
        cursor.execute(_ADD_STATS, [orjson.dumps(rows).decode()])


def _count_rows(counts: Mapping[StatKey, int]) -> list[dict[str, object]]:
    """Return the rows that add `counts`.

    Cells are written in one order by everyone, so that two writers never wait for each other in a
    circle.
    """
    cells: Iterable[tuple[StatKey, int]] = sorted(
        counts.items(),
        key=lambda cell: (
            cell[0].batch_id.int,
            cell[0].hour,
            cell[0].site,
            cell[0].kind,
            cell[0].detail,
        ),
    )
    return [
        {
            "id": new_id(),
            "tenant_id": key.tenant_id,
            "batch_id": key.batch_id,
            "hour": key.hour,
            "site": key.site,
            "kind": key.kind,
            "detail": key.detail,
            "count": count,
        }
        for key, count in cells
        if count
    ]


_ADD_LINK_CLICK = """
INSERT INTO sending_linkstat (id, tenant_id, batch_id, link_index, url, clicks, unique_clicks)
VALUES (%s, %s, %s, %s, %s, 1, %s)
ON CONFLICT (batch_id, link_index)
DO UPDATE SET clicks = sending_linkstat.clicks + 1,
              unique_clicks = sending_linkstat.unique_clicks + EXCLUDED.unique_clicks
"""


def count_link_click(
    *, tenant_id: uuid.UUID, batch_id: uuid.UUID, link_index: int, url: str, is_first: bool
) -> None:
    """Count a person's click on a link; `is_first`: the message's first on any link."""
    with connection.cursor() as cursor:
        cursor.execute(
            _ADD_LINK_CLICK,
            [new_id(), tenant_id, batch_id, link_index, url[:2000], 1 if is_first else 0],
        )
