"""The throttle that all workers share: grants from Valkey, spent locally.

A busy worker asks twice a second for all its lanes in one round trip and decides each message on
its own. No worker sends more than it was granted; without Valkey each keeps to its own part.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable

from esp.lib.clock import Clock, SystemClock
from sending.engine.ports import Demand, Lane, Outcome, Permit, Refusal
from sending.engine.shaping.adaptive import Tuning
from sending.engine.shaping.limits import Reaction
from sending.engine.shaping.policy import Shaping
from sending.lanes.asking import Asker
from sending.lanes.book import Book
from sending.lanes.grants import GrantStore
from sending.lanes.lane import LanePermit, LaneShare, Waiter
from sending.lanes.meters import Meter
from sending.lanes.reactions import Reactions
from sending.lanes.refusals import Refuser
from sending.lanes.seeding import Seeds
from sending.lanes.types import (
    Action,
    Alarm,
    CapFor,
    LaneCount,
    LimitCount,
    LimitsSnapshot,
)

_COLD_SECONDS = 1.5  # how long a first message waits for the first grant

_LOCAL_PHASES = frozenset({"throttle", "render", "slice", "envelope", "mx"})


def no_cap(source_id: str, site: str, day: dt.date) -> int | None:
    """Cap nothing."""
    return None


class SharedThrottle:
    """Implements `ports.Throttle` over Valkey for one worker process and its event loop.

    `worker` is a name that no other running worker has. `expected_workers` bounds from below among
    how many the limits are divided while Valkey cannot tell. `seeds` reads hour and day counts
    from the database (awaited, never on the loop itself); `alarm` is called on the loop and must
    return at once. `cap_for` is called on the loop, too, and answers from memory. `idle_seconds` is
    how long a session without a message stays open at most.
    """

    def __init__(
        self,
        store: GrantStore,
        *,
        shaping: Shaping,
        worker: str,
        clock: Clock | None = None,
        cap_for: CapFor = no_cap,
        seeds: Seeds | None = None,
        alarm: Callable[[Alarm], None] | None = None,
        snapshot: LimitsSnapshot | None = None,
        expected_workers: int = 4,
        lease_seconds: float = 10.0,
        idle_seconds: float = 6.0,
        tuning: Tuning | None = None,
    ) -> None:
        self._shaping = shaping
        self._clock = clock or SystemClock()
        self._monotonic = self._clock.monotonic
        self._book = Book(
            shaping=shaping,
            clock=self._clock,
            cap_for=cap_for,
            snapshot=snapshot or LimitsSnapshot(),
            idle_seconds=idle_seconds,
            tuning=tuning,
        )
        self._reactions = Reactions(clock=self._clock)
        self._refuser = Refuser(shaping, self._clock)
        self._asker = Asker(
            store,
            book=self._book,
            reactions=self._reactions,
            clock=self._clock,
            worker=worker,
            expected_workers=expected_workers,
            lease_seconds=lease_seconds,
            seeds=seeds,
            alarm=alarm or (lambda _alarm: None),
            serve=self._serve,
            carry_out=self._carry_out,
        )

    # --- ports.Throttle ----------------------------------------------------------------------

    async def acquire(self, demand: Demand, *, wait_seconds: float) -> Permit | Refusal:
        """Return a permit, waiting at most `wait_seconds` for one (in line), or why there is none.

        The very first message of a lane waits for Valkey's first answer in any case.
        """
        share = self._book.lanes.get(demand.lane)
        if share is None:
            share = self._book.open(demand.lane)
        now = self._monotonic()
        if not share.waiters:
            permit = self._try(share, demand, now)
            if isinstance(permit, LanePermit):
                return permit
            code, meter = permit
            if code == "cold":
                wait_seconds = max(wait_seconds, _COLD_SECONDS)
        else:
            code, meter = "connections", share.meter
        self._asker.miss(meter, now)
        if wait_seconds <= 0 or code == "shut":
            return self._refusal(share, demand, code, meter)
        return await self._in_line(share, demand, wait_seconds)

    def release(self, permit: Permit) -> None:
        """Give a permit back; the next in line gets its place."""
        assert isinstance(permit, LanePermit)
        share = permit.share
        share.meter.in_use -= 1
        for meter in permit.scopes:
            meter.in_use -= 1
        if share.waiters:
            self._serve(share)

    def report(self, permit: Permit, outcome: Outcome) -> None:
        """Count and learn from an outcome, and do what the provider's reply calls for."""
        assert isinstance(permit, LanePermit)
        share = permit.share
        now = self._monotonic()
        share.learn(permit, outcome, now)
        if outcome.phase in _LOCAL_PHASES:
            return
        share.tally(outcome)
        if outcome.kind != "delivered" and outcome.smtp_code is not None:
            found = self._shaping.reactions_to(outcome, share.lane.site)
            for reaction in self._reactions.due(found, permit.demand, outcome, now=now):
                self._carry_out(reaction, permit.demand, outcome)

    def places(self) -> dict[Lane, int]:
        """Return how many more messages may go now by each lane that has room. Call it on the loop.

        Of lanes that sent lately: of others nobody here knows.
        """
        now = self._monotonic()
        found = {share.lane: share.places(now) for share in self._book}
        return {lane: places for lane, places in found.items() if places > 0}

    # --- for the database's thread -----------------------------------------------------------

    def change_limits(self, snapshot: LimitsSnapshot) -> None:
        """Take what the database says now. Call it on the loop."""
        for meter in self._book.change_limits(snapshot):
            self._asker.forget(meter)

    def take_actions(self) -> list[Action]:
        """Return the reactions carried out since the last call, for `services.write_actions`."""
        return self._reactions.take_actions()

    def put_back_actions(self, actions: list[Action]) -> None:
        """Keep actions that the database did not take."""
        self._reactions.put_back(actions)

    def take_counts(self) -> list[LaneCount]:
        """Return what was counted by lane since the last call, for `services.add_counts`."""
        return self._book.take_counts()

    def put_back_counts(self, counts: list[LaneCount]) -> None:
        """Keep counts that the database did not take."""
        self._book.put_back_counts(counts)

    def take_limit_counts(self) -> list[LimitCount]:
        """Return what left under limits since the last call, for `services.add_limit_counts`."""
        return self._book.take_limit_counts()

    def put_back_limit_counts(self, counts: list[LimitCount]) -> None:
        """Keep counts that the database did not take."""
        self._book.put_back_limit_counts(counts)

    async def rest(self) -> None:
        """Give back what was granted of hours and days and not used, at the end of a slice."""
        await self._asker.rest()

    async def close(self) -> None:
        """Stop asking; leases end by themselves."""
        await self._asker.close()

    # --- room --------------------------------------------------------------------------------

    def _try(self, share: LaneShare, demand: Demand, now: float) -> LanePermit | tuple[str, Meter]:
        """Take a place in the lane and in all other limits of `demand`, or say which has none."""
        code = share.block(now)
        if code:
            return code, share.meter
        scopes: tuple[Meter, ...] = ()
        if self._book.limits_others:
            scopes = self._book.meters_for(demand)
            for meter in scopes:
                code = meter.block(now)
                if code:
                    return code, meter
            for meter in scopes:
                meter.take(now)
                if not meter.is_listed:
                    self._asker.enlist(meter)
        if not share.meter.is_listed:
            self._asker.enlist(share.meter)
        is_reuse = share.take(now)
        return LanePermit(
            demand, share.quota.messages_per_connection or 100, share, scopes, is_reuse
        )

    # --- waiting -----------------------------------------------------------------------------

    async def _in_line(self, share: LaneShare, demand: Demand, seconds: float) -> Permit | Refusal:
        loop = asyncio.get_running_loop()
        waiter = Waiter(demand, loop.create_future())
        share.line_up(waiter)
        share.meter.waiting += 1
        waiter.timer = loop.call_later(seconds, self._give_up, share, waiter)
        if len(share.waiters) == 1:
            self._wake_later(share)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            future = waiter.future
            if future.done() and not future.cancelled():
                permit = future.result()
                if isinstance(permit, Permit):
                    self.release(permit)
            raise
        finally:
            waiter.timer.cancel()
            share.meter.waiting -= 1
            if waiter in share.waiters:
                share.waiters.remove(waiter)

    def _give_up(self, share: LaneShare, waiter: Waiter) -> None:
        if waiter.future.done():
            return
        found = self._try(share, waiter.demand, self._monotonic())
        if isinstance(found, LanePermit):
            waiter.future.set_result(found)
            return
        waiter.future.set_result(self._refusal(share, waiter.demand, *found))

    def _serve(self, share: LaneShare) -> None:
        """Give places to those in line, in order; who waits for another limit is passed over."""
        now = self._monotonic()
        passed = 0
        for waiter in list(share.waiters):
            if waiter.future.done():
                continue
            found = self._try(share, waiter.demand, now)
            if isinstance(found, LanePermit):
                waiter.future.set_result(found)
                share.waiters.remove(waiter)
                continue
            code, meter = found
            self._asker.miss(meter, now)
            if code == "shut":
                waiter.future.set_result(self._refusal(share, waiter.demand, code, meter))
                share.waiters.remove(waiter)
                continue
            passed += 1
            if meter is share.meter or passed >= 16:
                break
        if share.waiters:
            self._wake_later(share)

    def _wake_later(self, share: LaneShare) -> None:
        """Look again when the next message may go; releases and grants wake the line, too."""
        if share.wake is not None:
            return
        loop = asyncio.get_running_loop()
        seconds = share.seconds_to_next(self._monotonic())
        share.wake = loop.call_later(seconds, self._woken, share)

    def _woken(self, share: LaneShare) -> None:
        share.wake = None
        if share.waiters:
            self._serve(share)

    def _refusal(self, share: LaneShare, demand: Demand, code: str, meter: Meter) -> Refusal:
        return self._refuser.refusal(share, demand, code, meter, self._book.snapshot.names)

    # --- reactions ---------------------------------------------------------------------------

    def _carry_out(self, reaction: Reaction, demand: Demand, outcome: Outcome) -> None:
        now = self._monotonic()
        lane = demand.lane
        share = self._book.lanes.get(lane)
        if share is not None:
            share.meet(reaction, now)
        source = outcome.source_address or self._book.snapshot.names.get(lane.source_id, "")
        self._reactions.carry_out(reaction, demand, outcome, source=source, now=now)
