"""How much waits in each lane and why: all tenants' mail, for the workers' database role."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass

from django.db import connection

from esp.lib.ids import made_at

# A row a lane and reason; a stranger's domain can be a site, so there may be any number of lanes.
MOST = 3000


@dataclass(frozen=True, slots=True)
class LanePart:
    """Messages that wait in a lane for one reason, and the words of one of them.

    `why` is a hold of ours ("rate", "cap", …), else "reply", "unreachable", "due", "leased" or
    "lease-ended".
    """

    source_id: str
    site: str
    why: str
    count: int
    accepted_at: dt.datetime  # of the oldest
    next_at: dt.datetime | None  # the first of them; None while all are under way
    example: str
    depth: int  # of the lane, all reasons together


_PARTS = """
WITH part AS (
    SELECT source_id, site,
           CASE WHEN worker <> '' AND due_at > %(now)s THEN 'leased'
                WHEN worker <> '' THEN 'lease-ended'
                WHEN due_at <= %(now)s THEN 'due'
                WHEN hold <> '' THEN hold
                WHEN position(' could not be reached: ' IN reason) > 0 THEN 'unreachable'
                ELSE 'reply' END AS why,
           count(*) AS number, min(message_id::text) AS oldest,
           min(due_at) FILTER (WHERE worker = '') AS next_at,
           min(reason COLLATE "C") AS example
    FROM sending_queueentry
    WHERE site <> '' AND (%(site)s = '' OR site = %(site)s AND source_id = %(source)s)
    GROUP BY 1, 2, 3
)
SELECT source_id, site, why, number, oldest, next_at, example,
       sum(number) OVER (PARTITION BY source_id, site)::bigint AS depth
FROM part ORDER BY depth DESC, source_id, site, number DESC LIMIT %(most)s
"""


def lane_parts(now: dt.datetime, *, source_id: str = "", site: str = "") -> list[LanePart]:
    """Return what waits by lane and reason, the fullest lanes first; with `site` of one lane."""
    with connection.cursor() as cursor:
        cursor.execute(_PARTS, {"now": now, "site": site, "source": source_id, "most": MOST})
        return [
            LanePart(source, name, why, count, made_at(uuid.UUID(oldest)), next_at, example, depth)
            for source, name, why, count, oldest, next_at, example, depth in cursor.fetchall()
        ]


def sees_all_tenants() -> bool:
    """Tell whether this connection's role sees every tenant's queue (the workers' does)."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT NOT row_security_active('sending_queueentry')")
        return bool(cursor.fetchone()[0])
