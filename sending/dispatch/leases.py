"""The statements of a claim: which entries of which batches it leases, in how many looks."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

from esp.kit.arrays import ints, raw_cursor, texts, times, uuids
from sending.dispatch.turns import Ready, allot
from sending.dispatch.walks import BEGINNING, ROWS, Walks, Window

# How often one claim asks anew when batches had less than their share.
_ROUNDS = 4


# By arrays of keys throughout: whatever the planner believes of tables that grow by a million rows
# between two ANALYZEs, it takes the indexes. A turn looks at so many entries, and each that it may
# have is locked one by one: where another worker is about to take some, it goes on to the next.
_FIND = """
WITH due AS MATERIALIZED (
    SELECT entry.message_id, entry.worker
    FROM unnest(%(batches)s, %(shares)s, %(full)s, %(starts)s, %(rows)s)
         AS turn (batch_id, share, full_at, start, rows)
    JOIN sending_batch batch ON batch.id = turn.batch_id AND batch.status = 'running'
    CROSS JOIN LATERAL (
        SELECT locked.message_id, locked.worker
        FROM (
            SELECT ctid, domain FROM sending_queueentry
            WHERE batch_id = turn.batch_id AND {seen}
            LIMIT turn.rows
        ) seen
        CROSS JOIN LATERAL (
            SELECT message_id, worker FROM sending_queueentry
            WHERE ctid = seen.ctid AND {free}
            FOR UPDATE SKIP LOCKED
        ) locked
        WHERE seen.domain <> ALL(%(avoid)s)
          AND (turn.full_at = '' OR strpos(turn.full_at, ' ' || seen.domain || ' ') = 0)
        LIMIT turn.share
    ) entry
)
"""
_IS_DUE = "due_at <= %(now)s"
# Whenever it is due: those before this node have no room for it.
_IS_PASSED = f"passed_to = %(node)s AND (worker = '' OR {_IS_DUE})"

# The name of the node stays: it is what a lease that is given back, or runs out, is still for.
_LEASE = """
UPDATE sending_queueentry entry
SET due_at = %(lease_end)s, worker = %(worker)s, reason = '', hold = ''
WHERE message_id = ANY(ARRAY(SELECT message_id FROM due))
RETURNING message_id, batch_id, domain, attempts, expires_at,
          message_id = ANY(ARRAY(SELECT message_id FROM due WHERE due.worker <> '')),
          passed_to <> '' AND passed_to = %(node)s
"""
_LEASE_DUE = (
    _FIND.format(seen=f"due_at >= turn.start AND {_IS_DUE} ORDER BY due_at", free=_IS_DUE) + _LEASE
)
# By the index of what is passed on, which holds nothing else: hence the second condition.
_LEASE_PASSED = _FIND.format(seen=f"{_IS_PASSED} AND passed_to <> ''", free=_IS_PASSED) + _LEASE

# (message, batch, domain, attempts, end of life, whether another's lease on it has run out, whether
# it was passed on to this node)
Lease = tuple[Any, ...]


class Closed:
    """The destinations that a claim leaves out: of all batches, and of each that was asked."""

    def __init__(self, avoid: Collection[str], full: Collection[tuple[str, str]]) -> None:
        self.everywhere = frozenset(avoid)
        self.by_batch: dict[uuid.UUID, frozenset[str]] = {}
        self._full: dict[str, list[str]] = defaultdict(list)
        for batch, domain in full:
            self._full[batch].append(domain)

    def ask(self, batches: Iterable[uuid.UUID]) -> None:
        """Put all that is left out of `batches` into `by_batch`."""
        for batch in batches:
            if batch not in self.by_batch:
                self.by_batch[batch] = self.everywhere.union(self.only_of(batch))

    def only_of(self, batch: uuid.UUID) -> Sequence[str]:
        """Return what is left out of `batch` alone."""
        return self._full.get(str(batch), ())


@dataclass(slots=True)
class Taker:
    """One claim: who asks, and what it leaves out."""

    worker: str
    node: str
    now: dt.datetime
    end: dt.datetime
    closed: Closed
    walks: Walks

    def take(
        self,
        ready: Sequence[Ready],
        limit: int,
        avoid_batches: frozenset[uuid.UUID],
        rng: random.Random,
    ) -> list[Lease]:
        """Return leases on at most `limit` messages, each batch having its turns."""
        passed = {one.batch_id for one in ready if one.has_passed} if self.node else set()
        left = [one for one in ready if one.batch_id in passed or one.batch_id not in avoid_batches]
        leases: list[Lease] = []
        self.walks.is_under_way = False
        for _ in range(_ROUNDS):
            if not left or len(leases) >= limit:
                break
            asked = allot(left, limit - len(leases), rng)
            self.closed.ask(asked)
            got = self._passed({batch: asked[batch] for batch in asked if batch in passed})
            counts = _by_batch(got)
            due = {batch: number - counts[batch.int] for batch, number in asked.items()
                   if batch not in avoid_batches and number > counts[batch.int]}  # fmt: skip
            windows = self.walks.windows(due, self.closed.by_batch)
            got += self._lease(_LEASE_DUE, due, windows)
            leases += got
            counts = _by_batch(got)
            dry = {batch for batch, number in asked.items() if counts[batch.int] < number}
            more = self.walks.note(
                {batch: window for batch, window in windows.items() if batch in dry},
                self.closed.by_batch,
                self.now,
            )
            self.walks.is_under_way = bool(more)
            left = [one for one in left if one.batch_id not in dry or one.batch_id in more]
        return leases

    def _passed(self, asked: Mapping[uuid.UUID, int]) -> list[Lease]:
        """Lease what was passed on to this node."""
        windows = {
            batch: Window(BEGINNING, max(ROWS // len(asked), 2 * share))
            for batch, share in asked.items()
        }
        return self._lease(_LEASE_PASSED, asked, windows)

    def _lease(
        self,
        statement: LiteralString,
        asked: Mapping[uuid.UUID, int],
        windows: Mapping[uuid.UUID, Window],
    ) -> list[Lease]:
        if not asked:
            return []
        cursor = raw_cursor().execute(
            statement,
            {
                "batches": uuids(asked),
                "shares": ints(asked.values()),
                "full": texts(_listed(self.closed.only_of(batch)) for batch in asked),
                "starts": times(windows[batch].start for batch in asked),
                "rows": ints(windows[batch].rows for batch in asked),
                "avoid": texts(self.closed.everywhere),
                "now": self.now,
                "lease_end": self.end,
                "worker": self.worker,
                "node": self.node,
            },
        )
        return cursor.fetchall()


def _by_batch(leases: Iterable[Lease]) -> Counter[int]:
    """Return how many leases each batch has, by the number of its id."""
    return Counter([lease[1].int for lease in leases])


def _listed(domains: Collection[str]) -> str:
    """Return `domains` as the statement looks them up: between blanks; "" for none."""
    return f" {' '.join(domains)} " if domains else ""
