"""A slice of work: claim, prepare, deliver many at once, record in batches.

Knows nothing of queues or databases: `sending.dispatch` hands in functions. A slice lasts seconds;
a worker runs one after the other, so that limits, pauses and new code take hold soon.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from esp.lib.clock import Clock
from sending.engine.ports import Deliver, Order, Outcome, Phase
from sending.engine.recorder import Recorder, RecordSettings, Result

J = TypeVar("J")


class NotReady(Exception):
    """What `Work.prepare` needs is not to be had now; the job goes back untouched."""


@dataclass(frozen=True, slots=True)
class SliceSettings:
    """`max_share` is the part of the slots that one destination may hold (at least one slot).

    After `duration_seconds` nothing more is claimed; deliveries under way get `grace_seconds` to
    end, then they are cut off and deferred as ambiguous.
    """

    duration_seconds: float = 10.0
    concurrency: int = 50
    max_share: float = 0.5
    grace_seconds: float = 30.0
    poll_seconds: float = 0.2
    record: RecordSettings = field(default_factory=RecordSettings)

    def __post_init__(self) -> None:
        if self.concurrency < 1 or not 0 < self.max_share <= 1:
            raise ValueError("a slice has at least one slot, and a share lies in (0, 1]")

    @property
    def slots_per_destination(self) -> int:
        return max(1, math.floor(self.concurrency * self.max_share))

    @property
    def claim_at_least(self) -> int:
        return max(1, self.concurrency // 8)


@dataclass(slots=True)
class SliceSummary:
    """What a slice did; `is_idle` says that it ended because there was nothing to claim."""

    claimed: int = 0
    delivered: int = 0
    deferred: int = 0
    bounced: int = 0
    returned: int = 0
    cut_off: int = 0
    is_idle: bool = False
    seconds: float = 0.0
    by_classification: dict[str, int] = field(default_factory=dict)

    def count(self, outcome: Outcome) -> None:
        """Add one outcome."""
        setattr(self, outcome.kind, getattr(self, outcome.kind) + 1)
        counts = self.by_classification
        counts[outcome.classification] = counts.get(outcome.classification, 0) + 1


class Work(Protocol[J]):
    """What a slice works on; each method may raise, and what then happens stands beside it."""

    async def claim(self, limit: int, avoid: frozenset[str]) -> Sequence[J]:
        """Lease at most `limit` jobs, none for a destination in `avoid`. Raising ends the slice."""

    def destination(self, job: J) -> str:
        """Return what shares are counted by: the recipient's domain, or better its site."""

    async def prepare(self, job: J) -> Order:
        """Say who, where and by which ways; the bytes are made later, by `Order.make`.

        Raising NotReady gives the job back untouched; raising anything else bounces this one job
        as block/content in phase "render".
        """

    async def record(self, results: Sequence[Result[J]]) -> None:
        """Make results durable. Raising is tried again; in the end the slice raises."""

    async def give_back(self, jobs: Sequence[J]) -> None:
        """End the leases of jobs that were not started. Raising is harmless: leases run out."""


async def run_slice(
    work: Work[J],
    deliverer: Deliver,
    *,
    settings: SliceSettings,
    clock: Clock,
    should_stop: Callable[[], bool] = lambda: False,
) -> SliceSummary:
    """Work for `settings.duration_seconds` or until there is nothing left; returns the counts.

    Raises RecordFailed when results could not be made durable: their leases run out, and the
    messages go again under the same Message-ID. Raises what `claim` raised, after everything under
    way was delivered and recorded.
    """
    return await _Slice(work, deliverer, settings, clock, should_stop).run()


class _Slice(Generic[J]):
    def __init__(
        self,
        work: Work[J],
        deliverer: Deliver,
        settings: SliceSettings,
        clock: Clock,
        should_stop: Callable[[], bool],
    ) -> None:
        self._work = work
        self._deliverer = deliverer
        self._settings = settings
        self._clock = clock
        self._should_stop = should_stop
        self._summary = SliceSummary()
        self._recorder: Recorder[J] = Recorder(work.record, settings.record)
        self._waiting: dict[str, deque[J]] = {}
        self._running: dict[asyncio.Task[None], tuple[str, J]] = {}
        self._busy: dict[str, int] = {}
        self._unstarted: list[J] = []
        self._started = clock.monotonic()

    async def run(self) -> SliceSummary:
        self._recorder.start()
        try:
            await self._fill_until_end()
        finally:
            await self._settle()
            self._summary.seconds = self._clock.monotonic() - self._started
        return self._summary

    async def _fill_until_end(self) -> None:
        while not self._is_over():
            room = self._settings.concurrency - len(self._running)
            is_dry = False
            # Not for every single slot: a claim is a round trip to the database.
            if room >= self._settings.claim_at_least or not self._running:
                is_dry = not await self._claim(room)
            self._start_waiting()
            if not self._running:
                self._summary.is_idle = True
                return
            await self._wait_a_little(is_dry=is_dry)

    async def _claim(self, limit: int) -> int:
        """Claim for the free slots; returns how many jobs came.

        What waits are only jobs above their destination's share, and those destinations are named
        to be avoided, so that waiting jobs stay few whatever the queue looks like.
        """
        jobs = await self._work.claim(limit, self._full())
        self._summary.claimed += len(jobs)
        for job in jobs:
            self._waiting.setdefault(self._work.destination(job), deque()).append(job)
        return len(jobs)

    def _is_over(self) -> bool:
        spent = self._clock.monotonic() - self._started
        return (
            spent >= self._settings.duration_seconds
            or self._should_stop()
            # Delivering what cannot be recorded would mean delivering it again.
            or self._recorder.is_failing
        )

    def _full(self) -> frozenset[str]:
        """Return the destinations that have all their slots taken, or jobs waiting for them."""
        share = self._settings.slots_per_destination
        return frozenset(
            name
            for name in self._busy.keys() | self._waiting.keys()
            if self._busy.get(name, 0) + len(self._waiting.get(name, ())) >= share
        )

    def _start_waiting(self) -> None:
        """Fill the slots one job per destination in turn, none above its share."""
        share = self._settings.slots_per_destination
        progress = True
        while progress and len(self._running) < self._settings.concurrency:
            progress = False
            for name in list(self._waiting):
                if len(self._running) >= self._settings.concurrency:
                    break
                if self._busy.get(name, 0) < share:
                    self._start(name, self._waiting[name].popleft())
                    progress = True
                    if not self._waiting[name]:
                        del self._waiting[name]

    def _start(self, name: str, job: J) -> None:
        task = asyncio.create_task(self._one(job))
        self._busy[name] = self._busy.get(name, 0) + 1
        self._running[task] = (name, job)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        name, _ = self._running.pop(task)
        self._busy[name] -= 1
        if not self._busy[name]:
            del self._busy[name]

    async def _one(self, job: J) -> None:
        """Prepare and deliver one job; whatever happens, it has exactly one result."""
        try:
            outcome = await self._attempt(job)
        except NotReady:
            self._unstarted.append(job)
            return
        except asyncio.CancelledError:
            self._summary.cut_off += 1
            outcome = self._made_up(
                "slice", "soft/network-error", "The attempt took too long and was cut off."
            )
        self._summary.count(outcome)
        self._recorder.add(Result(job, outcome))

    async def _attempt(self, job: J) -> Outcome:
        try:
            order = await self._work.prepare(job)
        except NotReady:
            raise
        except Exception as error:  # whatever a tenant's content does
            why = str(error) or type(error).__name__
            text = f"The message could not be made: {why}"[:1000]
            return self._made_up("render", "block/content", text)
        try:
            return await self._deliverer.deliver(order)
        except Exception as error:  # costs one attempt, never the slice
            text = f"The engine failed: {type(error).__name__}: {error}"[:1000]
            return self._made_up("slice", "soft/server-error", text)

    def _made_up(self, phase: Phase, classification: str, text: str) -> Outcome:
        is_render = phase == "render"
        return Outcome(
            kind="bounced" if is_render else "deferred",
            phase=phase,
            classification=classification,
            text=text,
            at=self._clock.now(),
            is_ambiguous=not is_render,
        )

    async def _wait_a_little(self, *, is_dry: bool) -> None:
        """Wait for a slot to become free; when the queue is dry, ask it again at intervals."""
        timeout = self._settings.poll_seconds
        if is_dry or not self._running:
            await asyncio.sleep(timeout)
        else:
            await asyncio.wait(self._running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)

    async def _settle(self) -> None:
        """Give back what was not started, end what was, and make all results durable."""
        not_started = [job for jobs in self._waiting.values() for job in jobs]
        self._waiting.clear()
        await self._give_back(not_started)
        if self._running:
            await asyncio.wait(self._running, timeout=self._settings.grace_seconds)
        for task in list(self._running):
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
        await self._give_back(self._unstarted)
        await self._recorder.finish()

    async def _give_back(self, jobs: Sequence[J]) -> None:
        self._summary.returned += len(jobs)
        with contextlib.suppress(Exception):  # the leases run out by themselves
            if jobs:
                await self._work.give_back(jobs)
