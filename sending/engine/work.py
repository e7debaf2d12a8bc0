"""What a slice works on, under which settings, and what it reports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar

from sending.engine.ports import Order, Outcome
from sending.engine.recorder import RecordSettings, Result

J = TypeVar("J")


class Avoid(NamedTuple):
    """What to leave out of a claim: destinations, and (party, destination) where others may come.

    A party is whose mail a job is (`Work.party`), a campaign in practice.
    """

    destinations: frozenset[str] = frozenset()
    of_parties: frozenset[tuple[str, str]] = frozenset()

    def covers(self, party: str, destination: str) -> bool:
        """Tell whether a job of `party` for `destination` must be left out."""
        return destination in self.destinations or (party, destination) in self.of_parties


class NotReady(Exception):
    """What `Work.prepare` needs is not to be had now; the job goes back untouched."""


@dataclass(frozen=True, slots=True)
class SliceSettings:
    """`max_share` is the part of the slots that one destination may hold (at least one slot).

    `ahead` jobs are claimed beyond the free slots, so that slots do not stand idle while the
    database is asked. After `duration_seconds` a slice ends as soon as no delivery hangs, that is
    takes longer than `hang_seconds`. Until then the other slots work on, in overtime: a delivery
    that has hung for `grace_seconds` is cut off and deferred, but content that is on its way gets
    `overtime_seconds`, since giving up there means sending twice (RFC 1047). Jobs that are held
    longer than `keep_seconds` have their leases renewed. When told to stop, deliveries whose
    content is not on its way yet are given back at once, the others get `stop_grace_seconds`. With
    nothing to claim a slice ends after `linger_seconds`. `avoid_seconds` bounds how long a
    destination that is held is left out of claims, `avoid_full_seconds` how long a party's mail is
    for one that is only full: it has its turns there, and others' mail gets among them.
    """

    duration_seconds: float = 10.0
    concurrency: int = 50
    ahead: int | None = None
    max_share: float = 0.5
    grace_seconds: float = 30.0
    hang_seconds: float = 2.0
    overtime_seconds: float = 320.0  # more than a server has for its last reply (Timeouts.body)
    keep_seconds: float = 45.0
    stop_grace_seconds: float = 6.0  # with Celery's own three seconds it stays under ten
    poll_seconds: float = 0.2
    linger_seconds: float = 0.0
    avoid_seconds: float = 30.0
    avoid_full_seconds: float = 2.0
    record: RecordSettings = field(default_factory=RecordSettings)

    def __post_init__(self) -> None:
        if self.concurrency < 1 or not 0 < self.max_share <= 1:
            raise ValueError("a slice has at least one slot, and a share lies in (0, 1]")

    @property
    def jobs_ahead(self) -> int:
        return self.concurrency if self.ahead is None else self.ahead

    @property
    def slots_per_destination(self) -> int:
        return max(1, math.floor(self.concurrency * self.max_share))

    @property
    def ahead_per_destination(self) -> int:
        return math.floor(self.jobs_ahead * self.max_share)

    @property
    def claim_at_least(self) -> int:
        """Not for every single slot: a claim is a round trip to the database."""
        return max(1, (self.concurrency + self.jobs_ahead) // 4)


@dataclass(slots=True)
class SliceSummary:
    """What a slice did; `is_idle` says that it ended because there was nothing to claim.

    `deferred` counts attempts that were put off, `held` messages that a limit of ours held back.
    """

    claimed: int = 0
    delivered: int = 0
    deferred: int = 0
    bounced: int = 0
    held: int = 0
    returned: int = 0
    cut_off: int = 0
    is_idle: bool = False
    is_stopped: bool = False
    seconds: float = 0.0
    by_classification: dict[str, int] = field(default_factory=dict)

    def count(self, outcome: Outcome) -> None:
        """Add one outcome."""
        if outcome.phase == "throttle":
            self.held += 1
        elif outcome.kind == "delivered":
            self.delivered += 1
        elif outcome.kind == "bounced":
            self.bounced += 1
        else:
            self.deferred += 1
        counts = self.by_classification
        counts[outcome.classification] = counts.get(outcome.classification, 0) + 1


class Work(Protocol[J]):
    """What a slice works on; each method may raise, and what then happens stands beside it.

    Some more are used where they are there. `is_expecting` says, where nothing is due, that
    something waits for its turn and will be due within seconds: the slice goes on. `party(job)`
    returns whose mail a job is: at one destination parties take turns. `async
    wait_for_work(timeout)` returns as soon as there may be something to claim, or after `timeout`
    seconds; the runner awaits it instead of asking the database at intervals. `note(result)` is
    called at once for each result, before it waits for its batch; it must not block.
    """

    async def claim(self, limit: int, avoid: Avoid) -> Sequence[J]:
        """Lease at most `limit` jobs, none that `avoid` covers. Raising ends the slice."""

    def destination(self, job: J) -> str:
        """Return what shares are counted by: the recipient's domain, or better its site."""

    async def prepare(self, job: J) -> Order:
        """Say who, where and by which ways; the bytes are made later, by `Order.make`.

        Raising NotReady gives the job back untouched; raising anything else bounces this one job
        as block/content in phase "render".
        """

    async def record(self, results: Sequence[Result[J]]) -> None:
        """Make results durable. Raising is tried again; in the end the slice raises."""

    async def keep(self, jobs: Sequence[J]) -> None:
        """Renew the leases of jobs that are long under way. Raising is tried again in time."""

    async def give_back(self, jobs: Sequence[J]) -> None:
        """End the leases of jobs that were not started. Raising is harmless: leases run out."""
