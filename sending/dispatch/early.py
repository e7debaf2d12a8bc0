"""Mail that waits for its turn in a lane, taken before its time where there is room.

When it comes again was reckoned from what the lane bore when it was full. The lane may be faster:
then the last messages of a campaign would wait for seconds beside connections with nothing to do.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection, Mapping, Sequence

from django.db import connection

from esp.kit.arrays import raw_cursor, texts, uuids
from sending.dispatch.claims import Job, jobs_of
from sending.dispatch.turns import ready_batches
from sending.engine.ports import Lane
from sending.lanes.refusals import PLACE, SOON_MOST_SECONDS, TURN

# As late as a message comes that waits for its turn (with what `verdicts` adds), and some seconds.
_AHEAD = dt.timedelta(seconds=SOON_MOST_SECONDS + 5.0)
# A connection that is free takes some in the time until somebody asks again. Under a rate one may
# go now, and whether a second, only the limit knows: a lane gets one of these at a time.
_PER_PLACE = 4
_HOLDS = [PLACE, TURN]
_ROWS = 2000  # entries of a batch that are looked at

_FIND = """
SELECT seen.message_id, seen.domain, seen.source_id, seen.site, seen.hold
FROM unnest(%(batches)s) AS turn (batch_id)
CROSS JOIN LATERAL (
    SELECT message_id, domain, source_id, site, hold, worker, due_at
    FROM sending_queueentry
    WHERE batch_id = turn.batch_id AND due_at > %(now)s AND due_at <= %(due)s
    ORDER BY due_at LIMIT %(rows)s
) seen
WHERE seen.hold = ANY(%(holds)s) AND seen.worker = ''
ORDER BY seen.due_at
"""

# Another worker may have taken it, or a person have paused its batch, a moment ago.
_LEASE = """
UPDATE sending_queueentry
SET due_at = %(lease_end)s, worker = %(worker)s, reason = '', hold = ''
WHERE message_id = ANY(ARRAY(
    SELECT entry.message_id FROM sending_queueentry entry
    JOIN sending_batch batch ON batch.id = entry.batch_id AND batch.status = 'running'
    WHERE entry.message_id = ANY(%(ids)s) AND entry.worker = '' AND entry.hold = ANY(%(holds)s)
    FOR UPDATE OF entry SKIP LOCKED
))
RETURNING message_id, batch_id, domain, attempts, expires_at, false, false
"""


def claim_early(
    *,
    stream: str,
    limit: int,
    worker: str,
    now: dt.datetime,
    lease: dt.timedelta,
    places: Mapping[Lane, int],
    avoid: Collection[str] = (),
    avoid_batches: Collection[uuid.UUID] = (),
) -> tuple[list[Job], bool]:
    """Lease at most `limit` messages of `stream` that wait for a turn in lanes that have `places`.

    As in `claims.claim`: until `now + lease`, committed when this returns, none for a domain in
    `avoid` or of a batch in `avoid_batches`. What waits for anything else keeps its time. Also
    returns whether anything waits for a turn, there or elsewhere.
    """
    batches = {one.batch_id for one in ready_batches(stream, now, ahead=_AHEAD)}
    batches.difference_update(avoid_batches)
    if not batches:
        return [], False
    with connection.wrap_database_errors:
        cursor = raw_cursor().execute(
            _FIND,
            {
                "batches": uuids(batches),
                "now": now,
                "due": now + _AHEAD,
                "rows": _ROWS,
                "holds": texts(_HOLDS),
            },
        )
        waiting = cursor.fetchall()
        ids = _fitting(waiting, places, avoid)[:limit]
        if not ids:
            return [], bool(waiting)
        leased = raw_cursor().execute(
            _LEASE,
            {"ids": uuids(ids), "holds": texts(_HOLDS), "lease_end": now + lease, "worker": worker},
        )
        return jobs_of(leased.fetchall()), True


def _fitting(
    rows: Sequence[tuple[uuid.UUID, str, str, str, str]],
    places: Mapping[Lane, int],
    avoid: Collection[str],
) -> list[uuid.UUID]:
    """Return the first messages of each lane, as many as it may take before the next look."""
    left = {
        (lane, hold): number * _PER_PLACE if hold == PLACE else 1
        for lane, number in places.items()
        for hold in _HOLDS
    }
    ids = []
    for message_id, domain, source_id, site, hold in rows:
        key = (Lane(source_id, site), hold)
        if left.get(key, 0) > 0 and domain not in avoid:
            left[key] -= 1
            ids.append(message_id)
    return ids
