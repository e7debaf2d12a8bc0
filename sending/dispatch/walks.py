"""How far each batch's due mail was looked through for what may leave now.

A claim takes a batch's oldest due mail that is for no destination which is left out. Where all that
is left of a large campaign is for a full or shut one, it would look at each of these entries, again
and again. So it looks at a bounded number of entries, and the next claim goes on behind them. Where
a destination opens again it goes back to the first entry that was passed over for it.

Nothing is written: what was passed over stays due, and any other worker may take it.
"""

from __future__ import annotations

import datetime as dt
import math
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from esp.kit.arrays import ints, raw_cursor, times, uuids

# Entries that one statement looks at, in equal parts for the batches that it asks; and the least
# for each of them.
ROWS, _LEAST = 10_000, 500
# A transaction that wrote an entry, or gave one back, may commit after a look that had passed the
# entry's time: what has come due in the last second is looked at again each time, and now and then
# what has in so long as a campaign's part may take.
_LATE, _LATER = dt.timedelta(seconds=1), dt.timedelta(seconds=15)
_LATER_EVERY_SECONDS = 5.0
# Once through, a batch is looked at anew after this: whatever was missed is found in the end.
_AGAIN_SECONDS = 60.0
_AGAIN_PER_ROW = 20e-6  # seconds; some twenty times what looking at an entry takes
_MOST_WALKS = 1000
BEGINNING = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)


class Window(NamedTuple):
    """The part of a batch's due mail that a claim looks at: so many `rows` from `start` on."""

    start: dt.datetime
    rows: int


@dataclass(slots=True)
class _Walk:
    """Where the next look at a batch begins, and where each destination was first passed over."""

    at: dt.datetime = BEGINNING
    passed: dict[str, dt.datetime] = field(default_factory=dict)
    rows: int = 0  # to look at, if more than others: so many entries are due at the same moment
    seen: int = 0  # entries, on the way to the end
    ended_at: float | None = None  # when the end was reached first, by the monotonic clock
    looked_back_at: float = -math.inf


class _Seen(NamedTuple):
    """What stands in a window for one destination."""

    domain: str
    number: int
    first: dt.datetime
    last: dt.datetime


# What stands in a window, by destination. As in a claim: by one index, in its order.
_SEEN = """
SELECT turn.batch_id, seen.domain, count(*), min(seen.due_at), max(seen.due_at)
FROM unnest(%(batches)s, %(starts)s, %(rows)s) AS turn (batch_id, start, rows)
CROSS JOIN LATERAL (
    SELECT domain, due_at FROM sending_queueentry
    WHERE batch_id = turn.batch_id AND due_at >= turn.start AND due_at <= %(now)s
    ORDER BY due_at LIMIT turn.rows
) seen
GROUP BY turn.batch_id, seen.domain
"""


class Walks:
    """The walks of one worker through the batches that it claims from."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._walks: dict[uuid.UUID, _Walk] = {}
        self.is_under_way = False  # the last claim found nothing more, and has not seen all

    def windows(
        self, asked: Mapping[uuid.UUID, int], left_out: Mapping[uuid.UUID, frozenset[str]]
    ) -> dict[uuid.UUID, Window]:
        """Return what to look at of each batch, for as many messages as it is asked for.

        `left_out` has the destinations that it must not give.
        """
        if len(self._walks) > _MOST_WALKS:
            self._walks.clear()
        rows = max(_LEAST, ROWS // max(1, len(asked)))
        return {
            batch: self._window(batch, left_out[batch], max(rows, 2 * share))
            for batch, share in asked.items()
        }

    def _window(self, batch: uuid.UUID, left_out: frozenset[str], rows: int) -> Window:
        walk = self._walks.get(batch)
        if walk is None:
            return Window(BEGINNING, rows)
        if not left_out or self._is_old(walk):
            del self._walks[batch]
            return Window(BEGINNING, rows)
        for opened in walk.passed.keys() - left_out:
            walk.at = min(walk.at, walk.passed.pop(opened))
        return Window(walk.at, max(rows, walk.rows))

    def _is_old(self, walk: _Walk) -> bool:
        if walk.ended_at is None:
            return False
        return self._clock() - walk.ended_at > max(_AGAIN_SECONDS, walk.seen * _AGAIN_PER_ROW)

    def note(
        self,
        windows: Mapping[uuid.UUID, Window],
        left_out: Mapping[uuid.UUID, frozenset[str]],
        now: dt.datetime,
    ) -> set[uuid.UUID]:
        """Note that these windows gave less than they were asked for; return what has more to see.

        A batch of which nothing is left out has given all that it has: it is no walk.
        """
        windows = {batch: window for batch, window in windows.items() if left_out[batch]}
        if not windows:
            return set()
        seen: dict[uuid.UUID, list[_Seen]] = {batch: [] for batch in windows}
        cursor = raw_cursor().execute(
            _SEEN,
            {
                "batches": uuids(windows),
                "starts": times(window.start for window in windows.values()),
                "rows": ints(window.rows for window in windows.values()),
                "now": now,
            },
        )
        for batch, *rest in cursor.fetchall():
            seen[batch].append(_Seen(*rest))
        return {
            batch
            for batch, window in windows.items()
            if self._move(batch, window, seen[batch], left_out[batch], now)
        }

    def _move(
        self,
        batch: uuid.UUID,
        window: Window,
        seen: Collection[_Seen],
        left_out: frozenset[str],
        now: dt.datetime,
    ) -> bool:
        """Move on behind what was passed over; tell whether there is more to see."""
        walk = self._walks.setdefault(batch, _Walk())
        count = sum(one.number for one in seen)
        is_end = count < window.rows
        last = self._end_of(walk, now) if is_end else max(one.last for one in seen)
        # Another worker is about to take what is open, or it has come this moment: it is not passed
        # over.
        walk.at = min([last, *(one.first for one in seen if one.domain not in left_out)])
        for one in seen:
            if one.domain in left_out:
                walk.passed[one.domain] = min(one.first, walk.passed.get(one.domain, one.first))
        walk.seen += count if walk.ended_at is None else 0
        # A campaign's part has one moment: where that is more than a window, the next is larger.
        is_stuck = last <= window.start
        walk.rows = 2 * window.rows if is_stuck else window.rows // 2
        if is_end:
            walk.rows = 0
            walk.ended_at = walk.ended_at or self._clock()
            return False
        return walk.at > window.start or is_stuck

    def _end_of(self, walk: _Walk, now: dt.datetime) -> dt.datetime:
        """Return from where on entries are looked at again, when all are seen that are due."""
        moment = self._clock()
        if moment - walk.looked_back_at < _LATER_EVERY_SECONDS:
            return now - _LATE
        walk.looked_back_at = moment
        return now - _LATER
