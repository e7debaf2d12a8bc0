"""A slice of work: claim, prepare, deliver many at once, record in batches.

Knows nothing of queues or databases: `sending.dispatch` hands in functions. A slice lasts seconds;
a worker runs one after the other, so that limits, pauses and new code take hold soon. Its slots are
coroutines that live as long as the slice and take one job after the other.

A server that hangs when the slice's time is over puts its end off, and no slot stands idle for it:
the slice goes on in overtime, begins nothing more where all hangs, and ends when nothing does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from esp.lib.clock import Clock
from sending.engine.lineup import Lineup
from sending.engine.ports import Deliver, Outcome, Phase
from sending.engine.recorder import Recorder, RecordSettings, Result
from sending.engine.slots import Slot, Slots
from sending.engine.work import Avoid, NotReady, SliceSettings, SliceSummary, Work

J = TypeVar("J")

__all__ = [
    "Avoid",
    "NotReady",
    "RecordSettings",
    "SliceSettings",
    "SliceSummary",
    "Work",
    "run_slice",
]

# How long the runner sleeps at most before it asks whether to stop.
_STOP_CHECK_SECONDS = 0.05

# Holds of a destination. Those of a tenant or batch must not keep others' mail from it.
_SITE_HOLDS = frozenset({"connections", "rate", "cap", "suspended", "paused", "quarantine",
                         "domain-rate"})  # fmt: skip
# Of these, those that say how long a message waits for its turn in a full lane. Turns are counted
# by batch: another one's first message has its own at once.
_TURN_HOLDS = frozenset({"connections", "rate"})
_SHORT_HOLD_SECONDS = 1.0
# What has begun shortly before a slice ends, and what of it has sent nothing, gets so long.
_LAST_SECONDS = 5.0


async def run_slice(
    work: Work[J],
    deliverer: Deliver,
    *,
    settings: SliceSettings,
    clock: Clock,
    should_stop: Callable[[], bool] = lambda: False,
    avoided: dict[tuple[str, str], float] | None = None,
) -> SliceSummary:
    """Work for `settings.duration_seconds` or until there is nothing left; returns the counts.

    When `should_stop` says so it ends within `settings.stop_grace_seconds` and nothing is sent
    twice for it. `avoided` remembers held (party, destination) pairs, "" being all parties (until
    when, by the monotonic clock); a caller that hands in the same dict carries them from slice to
    slice.

    Raises RecordFailed when results could not be made durable: their leases run out, and the
    messages go again under the same Message-ID. Raises what `claim` raised, after everything under
    way was delivered and recorded.
    """
    held = avoided if avoided is not None else {}
    return await _Slice(work, deliverer, settings, clock, should_stop, held).run()


def _nobody(_job: object) -> str:
    """Stand in for `Work.party` where jobs are all of one party."""
    return ""


class _Slice(Generic[J]):
    def __init__(  # noqa: PLR0917 (made in one place)
        self,
        work: Work[J],
        deliverer: Deliver,
        settings: SliceSettings,
        clock: Clock,
        should_stop: Callable[[], bool],
        avoided: dict[tuple[str, str], float],
    ) -> None:
        self._work = work
        self._deliverer = deliverer
        self._settings = settings
        self._clock = clock
        self._should_stop = should_stop
        self._avoided = avoided
        self._summary = SliceSummary()
        self._recorder: Recorder[J] = Recorder(work.record, settings.record)
        self._note: Callable[[Result[J]], None] | None = getattr(work, "note", None)
        self._party: Callable[[J], str] = getattr(work, "party", _nobody)
        self._lineup: Lineup[J] = Lineup(
            share=settings.slots_per_destination, ahead=settings.ahead_per_destination
        )
        self._slots: Slots[J] = Slots(settings.concurrency, deliverer)
        self._closed: set[str] = set()  # where all deliveries hang, in overtime
        self._kept_at = clock.monotonic()
        self._resting: deque[asyncio.Future[None]] = deque()
        self._running = 0
        self._has_room = asyncio.Event()
        self._is_closing = False
        self._unstarted: list[J] = []
        self._started = clock.monotonic()
        self._dry_since: float | None = None

    async def run(self) -> SliceSummary:
        self._recorder.start()
        for slot in self._slots.all:
            slot.task = asyncio.create_task(self._serve(slot))
        try:
            await self._feed()
        finally:
            await self._settle()
            self._summary.seconds = self._clock.monotonic() - self._started
        return self._summary

    # --- claiming --------------------------------------------------------------------------

    async def _feed(self) -> None:
        while not self._is_over():
            await self._tend()
            came: int | None = None
            room = self._room
            if self._may_claim(room):
                came = await self._claim(room)
                self._dry_since = None if came else self._dry_since or self._clock.monotonic()
            if came == 0 and self._is_empty and self._has_lingered():
                self._summary.is_idle = True
                return
            await self._pause(is_dry=came == 0)

    def _may_claim(self, room: int) -> bool:
        if self._recorder.is_behind:
            return False
        return room >= self._settings.claim_at_least or self._is_empty

    @property
    def _room(self) -> int:
        total = self._settings.concurrency + self._settings.jobs_ahead
        return total - self._running - self._lineup.ready

    @property
    def _is_empty(self) -> bool:
        return not self._running and not self._lineup.ready

    def _has_lingered(self) -> bool:
        if getattr(self._work, "is_expecting", False):
            return False
        since = self._dry_since if self._dry_since is not None else self._clock.monotonic()
        return self._clock.monotonic() - since >= self._settings.linger_seconds

    def _is_over(self) -> bool:
        self._summary.is_stopped = self._should_stop()
        # Delivering what cannot be recorded would mean delivering it again.
        if self._summary.is_stopped or self._recorder.is_failing:
            return True
        late = self._late
        return late >= 0 and (late >= self._settings.overtime_seconds or not self._is_prolonged())

    @property
    def _late(self) -> float:
        """How many seconds the slice is over its time."""
        return self._clock.monotonic() - self._started - self._settings.duration_seconds

    def _hanging(self) -> list[Slot[J]]:
        return self._slots.since(self._clock.monotonic() - self._settings.hang_seconds)

    def _is_prolonged(self) -> bool:
        """Tell whether overtime goes on: for what hung when it began, and for content on its way.

        Whatever else is slow by then begins anew in the next slice.
        """
        end = self._started + self._settings.duration_seconds
        return any(slot.since <= end or self._slots.is_leaving(slot) for slot in self._hanging())

    async def _tend(self) -> None:
        """In overtime, cut off what hung too long, and let nothing more begin where all hangs."""
        await self._keep()
        if self._late < 0:
            return
        hanging = self._hanging()
        patience = self._clock.monotonic() - self._settings.grace_seconds
        for slot in hanging:
            if slot.since <= patience and not self._slots.is_leaving(slot):
                self._slots.cut(slot)
        self._closed = self._slots.closed(hanging)
        await self._give_back(self._lineup.withdraw(self._closed))

    async def _keep(self) -> None:
        """Renew the leases of what is long under way; in overtime, what is in line goes back."""
        now = self._clock.monotonic()
        if now - self._kept_at < self._settings.keep_seconds:
            return
        self._kept_at = now
        if self._late > 0:
            await self._give_back(self._lineup.drain())
        jobs = [slot.job for slot in self._hanging() if slot.job is not None]
        with contextlib.suppress(Exception):  # tried again in time
            await self._work.keep(jobs)

    async def _claim(self, limit: int) -> int:
        """Claim for the free places; returns how many jobs came."""
        jobs = await self._work.claim(limit, self._to_avoid())
        self._summary.claimed += len(jobs)
        for job in jobs:
            self._lineup.add(self._work.destination(job), job, self._party(job))
        for _ in range(min(len(jobs), len(self._resting))):
            self._wake_one()
        return len(jobs)

    def _to_avoid(self) -> Avoid:
        """Return the destinations at their share, and those that a limit of ours keeps closed."""
        names, pairs = self._lineup.full()
        names |= self._closed
        if self._avoided:
            now = self._clock.monotonic()
            for key in [key for key, until in self._avoided.items() if until <= now]:
                del self._avoided[key]
            for party, name in self._avoided:
                if party:
                    pairs.add((party, name))
                else:
                    names.add(name)
        return Avoid(frozenset(names), frozenset(pairs))

    async def _pause(self, *, is_dry: bool) -> None:
        """Wait until there is room, or for work where the queue was dry; at most a poll's time."""
        end = self._clock.monotonic() + self._settings.poll_seconds
        wait_for_work = getattr(self._work, "wait_for_work", None)
        self._has_room.clear()
        while (left := end - self._clock.monotonic()) > 0 and not self._is_over():
            seconds = min(left, _STOP_CHECK_SECONDS)
            if not is_dry:
                if self._may_claim(self._room):
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self._has_room.wait()
                        return
            elif wait_for_work is not None:
                if await wait_for_work(seconds):
                    return
            else:
                await asyncio.sleep(seconds)

    # --- delivering ------------------------------------------------------------------------

    async def _serve(self, slot: Slot[J]) -> None:
        """Take one job after the other; whatever happens to one, the next is served."""
        enough = self._settings.claim_at_least
        while not self._is_closing:
            taken = self._lineup.take()
            if taken is None:
                await self._rest()
                continue
            name, job = taken
            slot.take(name, job, self._clock.monotonic())
            self._running += 1
            try:
                await self._one(slot, name, job)
            finally:
                slot.free()
                self._running -= 1
                self._lineup.done(name)
            if self._room >= enough:
                self._has_room.set()

    async def _rest(self) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._resting.append(woken)
        await woken

    def _wake_one(self) -> None:
        woken = self._resting.popleft()
        if not woken.done():
            woken.set_result(None)

    async def _one(self, slot: Slot[J], name: str, job: J) -> None:
        """Prepare and deliver one job: it has exactly one result, or goes back untouched."""
        try:
            outcome = await self._attempt(slot, job)
        except NotReady:
            self._unstarted.append(job)
            return
        except asyncio.CancelledError:
            if slot.task is not None:
                slot.task.uncancel()  # it was the job that was cancelled; the slot serves on
            if slot.returns and slot.is_safe:
                self._unstarted.append(job)
                return
            self._summary.cut_off += 1
            text = "The attempt took too long and was cut off."
            is_open = not slot.is_safe
            outcome = self._made_up("slice", "soft/network-error", text, is_ambiguous=is_open)
        self._finish(name, Result(job, outcome))

    async def _attempt(self, slot: Slot[J], job: J) -> Outcome:
        try:
            slot.order = await self._work.prepare(job)
        except NotReady:
            raise
        except Exception as error:  # whatever a tenant's content does
            why = str(error) or type(error).__name__
            text = f"The message could not be made: {why}"[:1000]
            return self._made_up("render", "block/content", text)
        try:
            return await self._deliverer.deliver(slot.order)
        except Exception as error:  # costs one attempt, never the slice
            text = f"The engine failed: {type(error).__name__}: {error}"[:1000]
            return self._made_up("slice", "soft/server-error", text, is_ambiguous=True)

    def _made_up(
        self, phase: Phase, classification: str, text: str, *, is_ambiguous: bool = False
    ) -> Outcome:
        return Outcome(
            kind="bounced" if phase == "render" else "deferred",
            phase=phase,
            classification=classification,
            text=text,
            at=self._clock.now(),
            is_ambiguous=is_ambiguous,
        )

    def _finish(self, name: str, result: Result[J]) -> None:
        outcome = result.outcome
        self._summary.count(outcome)
        if outcome.phase == "throttle":
            self._avoid(name, self._party(result.job), outcome)
        elif self._avoided:
            self._avoided.pop(("", name), None)
            self._avoided.pop((self._party(result.job), name), None)
        if self._note is not None:
            self._note(result)
        self._recorder.add(result)

    def _avoid(self, name: str, party: str, outcome: Outcome) -> None:
        """Leave a destination that is closed for longer out of the claims, for a while at most.

        Another source may be open there, so it is looked at again before a long hold is over.
        """
        seconds = outcome.retry_after_seconds or 0.0
        if outcome.hold not in _SITE_HOLDS or seconds <= _SHORT_HOLD_SECONDS:
            return
        settings = self._settings
        now = self._clock.monotonic()
        if outcome.hold in _TURN_HOLDS and seconds <= settings.avoid_seconds:
            # Many are refused one after the other; together they must not make it longer.
            if self._avoided.get((party, name), now) <= now:
                self._avoided[party, name] = now + min(seconds, settings.avoid_full_seconds)
            return
        self._avoided["", name] = now + min(seconds, settings.avoid_seconds)

    # --- ending ----------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Give back what was not started, end what was, and make all results durable."""
        self._is_closing = True
        while self._resting:
            self._wake_one()
        await self._give_back(self._lineup.drain())
        if not self._summary.is_stopped:
            await self._let_end()
        if self._summary.is_stopped:
            self._interrupt()
        settings = self._settings
        await self._wait_for_slots(settings.stop_grace_seconds if self._summary.is_stopped else 0.0)
        await self._give_back(self._unstarted)
        await self._recorder.finish()

    async def _let_end(self) -> None:
        """Wait for the last deliveries, and only until somebody asks to stop.

        They began a moment ago. What has sent nothing of its content within seconds goes back; what
        has is never cut off before its session itself gives up.
        """
        settings = self._settings
        most = min(_LAST_SECONDS, settings.grace_seconds)
        begun = self._clock.monotonic()
        pending: set[asyncio.Task[None]] = set(self._slots.tasks)
        while pending and (taken := self._clock.monotonic() - begun) < settings.overtime_seconds:
            self._summary.is_stopped = self._should_stop()
            if self._summary.is_stopped:
                return
            if taken >= most:
                self._interrupt()
            _, pending = await asyncio.wait(pending, timeout=_STOP_CHECK_SECONDS)
            await self._keep()

    def _interrupt(self) -> None:
        """Break off what has not sent any of its content: it can go again without harm."""
        for slot in self._slots.busy():
            if not slot.returns and not self._slots.is_leaving(slot):
                self._slots.cut(slot, returns=True)

    async def _wait_for_slots(self, seconds: float) -> None:
        tasks = self._slots.tasks
        _, late = await asyncio.wait(tasks, timeout=seconds)
        if late:
            for slot in self._slots.all:
                if slot.task in late:
                    self._slots.cut(slot, returns=self._summary.is_stopped)
            await asyncio.wait(late)
        for task in tasks:
            task.result()  # a slot that failed is a fault of the runner: it must not go unseen

    async def _give_back(self, jobs: Sequence[J]) -> None:
        if not jobs:
            return
        self._summary.returned += len(jobs)
        with contextlib.suppress(Exception):  # the leases run out by themselves
            await self._work.give_back(jobs)
