"""What waiting mail must not leave now, although it is due: as claims leave it out, and workers."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass, field
from typing import Any, Final

from django.db import connection


@dataclass(frozen=True, slots=True)
class Stopped:
    """Batches that must not send, and destinations of batches whose lanes are all shut."""

    batches: list[uuid.UUID] = field(default_factory=list)
    destinations: list[str] = field(default_factory=list)  # "<batch's key> <domain>"

    @property
    def params(self) -> dict[str, Any]:
        """What `IS_STOPPED` asks for."""
        return {
            "stopped": self.batches,
            "is_any_shut": bool(self.destinations),
            "shut": self.destinations,
        }


# Whether a row of the queue is stopped. By constant arrays, which PostgreSQL looks up by a hash
# whatever the planner believes: no join, and nothing to compute where nothing is shut. But not in
# what it groups by (seen with 18: a hundred times slower), so that must come from a subquery which
# OFFSET 0 keeps apart.
IS_STOPPED: Final = """
(batch_id = ANY(%(stopped)s::uuid[])
 OR %(is_any_shut)s AND batch_id::text || ' ' || domain = ANY(%(shut)s::text[]))
"""

# The batches that have entries, by hops through the index (batch_id, due_at): few steps, however
# many entries. The rest is the contrary of what `dispatch.turns` lets send.
_BATCHES = """
WITH RECURSIVE hop AS (
    (SELECT batch_id FROM sending_queueentry ORDER BY batch_id LIMIT 1)
    UNION ALL
    SELECT (SELECT entry.batch_id FROM sending_queueentry entry
            WHERE entry.batch_id > hop.batch_id ORDER BY entry.batch_id LIMIT 1)
    FROM hop WHERE hop.batch_id IS NOT NULL
)
SELECT batch.id
FROM hop
JOIN sending_batch batch ON batch.id = hop.batch_id
JOIN tenants_tenant tenant ON tenant.id = batch.tenant_id
WHERE batch.status <> 'running' OR tenant.status <> 'active' OR EXISTS (
    SELECT 1 FROM deliverability_sendinghold hold
    WHERE hold.tenant_id = batch.tenant_id
      AND (hold.batch_ref IS NULL OR hold.batch_ref = batch.id)
      AND hold.stream IN ('', batch.stream)
      AND hold.lifted_at IS NULL AND (hold.until IS NULL OR hold.until > %(now)s))
LIMIT 20000
"""

# A worker that was refused by a shut lane leaves the destination out of its claims: a few entries
# of the batch say so, the others stand there as due. One that has another way would have left by
# it. By the index of a lane's entries, as many as tell the fullest destinations.
_DESTINATIONS = """
SELECT batch_id::text || ' ' || domain FROM (
    SELECT entry.batch_id, entry.domain
    FROM sending_lanestate lane
    CROSS JOIN LATERAL (
        SELECT batch_id, domain FROM sending_queueentry
        WHERE site = lane.site AND source_id = lane.source_id AND site <> ''
          AND hold IN ('paused', 'suspended')
        LIMIT 100000
    ) entry
    WHERE lane.is_paused OR lane.suspended_until > %(now)s
    LIMIT 100000
) AS refused
GROUP BY batch_id, domain ORDER BY count(*) DESC LIMIT 5000
"""


def stopped_mail(now: dt.datetime) -> Stopped:
    """Return what must not leave now: of campaigns, tenants and streams, and by shut lanes.

    For the workers' database role, which sees all tenants.
    """
    with connection.cursor() as cursor:
        cursor.execute(_BATCHES, {"now": now})
        batches = [key for (key,) in cursor.fetchall()]
        cursor.execute(_DESTINATIONS, {"now": now})
        return Stopped(batches, [text for (text,) in cursor.fetchall()])
