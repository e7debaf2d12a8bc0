"""By which ways a message may leave: the sources of this node, and the routes over them."""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections.abc import Sequence

from deliverability.ips.selectors import RankedSource, node_after, ways_out, why_no_source
from sending.dispatch.claims import Job
from sending.dispatch.contents import as_source
from sending.engine.ports import Outcome, Way
from sending.routes.selectors import ways_for

_KEEP_SECONDS = 5.0
_HOLD_SECONDS = 15.0
_Key = tuple[uuid.UUID, str, uuid.UUID | None]
_Kind = tuple[int, str, int | None, bool]


class Ways:
    """The ways of a worker's messages, and the batches that have none here for now."""

    def __init__(self) -> None:
        self._direct: dict[_Kind, tuple[Sequence[RankedSource], tuple[Way, ...]]] = {}
        self._without: dict[uuid.UUID, float] = {}
        self._reasons: dict[_Key, tuple[float, str]] = {}

    def of(self, job: Job, *, load: bool) -> tuple[Way, ...] | None:
        """Return the ways of `job`; with `load=False` None when the database must be asked."""
        found = ways_out(
            job.tenant_id, job.stream, job.domain_id, load=load, is_passed=job.is_passed
        )
        if found is None:
            return None
        kind = _kind_of(job)
        kept = self._direct.get(kind)
        if kept is None or kept[0] is not found:
            direct = tuple(Way(as_source(x.source), rank=x.rank, weight=x.weight) for x in found)
            kept = self._direct[kind] = (found, direct)
        return ways_for(job.tenant_id, job.stream, kept[1], only=job.only_route, load=load)

    def without(self, jobs: Sequence[Job]) -> list[Job]:
        """Return which of `jobs` have no way here; the database is asked once for each kind."""
        has_way: dict[tuple[_Kind, str | None], bool] = {}
        stuck = []
        for job in jobs:
            asked = (_kind_of(job), job.only_route)
            if asked not in has_way:
                has_way[asked] = bool(self.of(job, load=True))
            if not has_way[asked]:
                stuck.append(job)
        return stuck

    @staticmethod
    def next_node(job: Job) -> str:
        """Return the node that may take `job` when this one has no room, "" for none."""
        return node_after(job.tenant_id, job.stream, job.domain_id)

    def avoided(self) -> set[uuid.UUID]:
        """Return the batches that a claim leaves to other nodes."""
        now = time.monotonic()
        self._without = {batch: end for batch, end in self._without.items() if end > now}
        return set(self._without)

    def why_none(self, job: Job) -> str:
        """Note that `job` has no way here; return why no node has one, or "" when another has."""
        now = time.monotonic()
        self._without[job.batch_id] = now + _KEEP_SECONDS
        key = (job.tenant_id, job.stream, job.domain_id)
        kept = self._reasons.get(key)
        if kept is None or kept[0] < now:
            kept = self._reasons[key] = (now + _KEEP_SECONDS, why_no_source(*key))
        return kept[1]


def _kind_of(job: Job) -> _Kind:
    """Return what the direct ways of `job` hang on; by numbers, whose hashes cost nothing."""
    domain = job.domain_id
    return job.tenant_id.int, job.stream, None if domain is None else domain.int, job.is_passed


def held_for_source(reason: str, at: dt.datetime) -> Outcome:
    """Return the outcome of a message that no node can send now."""
    return Outcome(
        kind="deferred",
        phase="throttle",
        classification="soft/throttled",
        text=reason,
        at=at,
        hold="node",
        retry_after_seconds=_HOLD_SECONDS,
    )
