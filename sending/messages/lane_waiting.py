"""How much waits in each lane and why: all tenants' mail, for the workers' database role."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from django.db import connection

from esp.lib.ids import made_at
from sending.messages.stopped import IS_STOPPED, Stopped

# A row a lane and reason; a stranger's domain can be a site, so there may be any number of lanes.
MOST = 3000


@dataclass(frozen=True, slots=True)
class LanePart:
    """Messages that wait in a lane for one reason, and the words of one of them.

    `why` is a hold of ours ("rate", "cap", …), else "reply", "unreachable", "due", "leased",
    "lease-ended", or "stopped" for what is due and must not leave.
    """

    source_id: str
    site: str
    why: str
    count: int
    accepted_at: dt.datetime  # of the oldest
    next_at: dt.datetime | None  # the first of them; None for what is under way or stopped
    example: str
    depth: int  # of the lane, all reasons together


@dataclass(frozen=True, slots=True)
class LaneSum:
    """What waits from one source to one known site, or with site "" to all the others together."""

    source_id: str
    site: str
    count: int
    accepted_at: dt.datetime  # of the oldest


# One scan for both: parts of the fullest lanes, and sums that are few whatever strangers' domains.
_PARTS = """
WITH part AS MATERIALIZED (
    SELECT source_id, site, why, count(*) AS number, min(message_id::text) AS oldest,
           min(due_at) FILTER (WHERE worker = '') AS next_at,
           min(reason COLLATE "C") AS example
    FROM (
        SELECT source_id, site, message_id, due_at, worker, reason,
               CASE WHEN worker <> '' AND due_at > %(now)s THEN 'leased'
                    WHEN due_at <= %(now)s AND {is_stopped} THEN 'stopped'
                    WHEN worker <> '' THEN 'lease-ended'
                    WHEN due_at <= %(now)s THEN 'due'
                    WHEN hold <> '' THEN hold
                    WHEN position(' could not be reached: ' IN reason) > 0 THEN 'unreachable'
                    ELSE 'reply' END AS why
        FROM sending_queueentry
        WHERE site <> '' AND (%(site)s = '' OR site = %(site)s AND source_id = %(source)s)
        OFFSET 0
    ) AS entry
    GROUP BY 1, 2, 3
)
(SELECT true, source_id, site, why, number, oldest, next_at, example,
        sum(number) OVER (PARTITION BY source_id, site)::bigint AS depth
 FROM part ORDER BY depth DESC, source_id, site, number DESC LIMIT %(most)s)
UNION ALL
SELECT false, source_id, CASE WHEN site = ANY(%(known)s) THEN site ELSE '' END, '',
       sum(number)::bigint, min(oldest), NULL, '', 0
FROM part GROUP BY 2, 3
"""


def count_lanes(
    now: dt.datetime,
    *,
    stopped: Stopped,
    known: Collection[str] = (),
    source_id: str = "",
    site: str = "",
) -> tuple[list[LanePart], list[LaneSum]]:
    """Return what waits by lane and reason, the fullest lanes first, and the sums by `known` site.

    With `site` of that one lane only. `stopped` is what `stopped_mail` said of the same moment.
    """
    asked: dict[str, Any] = {
        "now": now,
        "site": site,
        "source": source_id,
        "most": MOST,
        "known": list(known),
        **stopped.params,
    }
    parts, sums = [], []
    with connection.cursor() as cursor:
        cursor.execute(_PARTS.format(is_stopped=IS_STOPPED), asked)
        for is_part, source, name, why, count, oldest, next_at, example, depth in cursor.fetchall():
            since = made_at(uuid.UUID(oldest))
            if is_part:
                next_at = None if why == "stopped" else next_at
                parts.append(LanePart(source, name, why, count, since, next_at, example, depth))
            else:
                sums.append(LaneSum(source, name, count, since))
    return parts, sums


def sees_all_tenants() -> bool:
    """Tell whether this connection's role sees every tenant's queue (the workers' does)."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT NOT row_security_active('sending_queueentry')")
        return bool(cursor.fetchone()[0])
