"""The throttle that all workers share: grants from Valkey, spent locally.

A busy worker asks twice a second for all its lanes in one round trip and decides each message on
its own. No worker sends more than it was granted; without Valkey each keeps to its own part.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import math
from collections.abc import Callable

from esp.lib.clock import Clock, SystemClock
from sending.engine.ports import Demand, Outcome, Permit, Refusal
from sending.engine.shaping.adaptive import Tuning
from sending.engine.shaping.limits import Reaction
from sending.engine.shaping.policy import Shaping
from sending.lanes.book import Book
from sending.lanes.grants import Ask, Grant, GrantStore, ValkeyTrouble
from sending.lanes.lane import LanePermit, LaneShare, Waiter
from sending.lanes.meters import GRACE_SECONDS, Crew, Meter
from sending.lanes.reactions import Reactions
from sending.lanes.refusals import Refuser
from sending.lanes.seeding import Seeder, Seeds
from sending.lanes.types import (
    Action,
    Alarm,
    CapFor,
    LaneCount,
    LimitsSnapshot,
)

log = logging.getLogger(__name__)

_ASK_SECONDS = 0.5
_HASTE_SECONDS = 0.1  # how soon a worker that ran short may ask again
_QUIET_SECONDS = 3.0  # how often a lane without demand renews what it still holds
_COLD_SECONDS = 1.5  # how long a first message waits for the first grant
_MOST_ASKS = 500  # in one round trip

ALARM_CODE = "throttle-valkey"
# How often a worker in trouble repeats its alarm.
ALARM_SECONDS = 10.0

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
        self._store = store
        self._shaping = shaping
        self._worker = worker
        self._clock = clock or SystemClock()
        self._monotonic = self._clock.monotonic
        self._alarm = alarm or (lambda _alarm: None)
        self._book = Book(
            shaping=shaping,
            clock=self._clock,
            cap_for=cap_for,
            snapshot=snapshot or LimitsSnapshot(),
            idle_seconds=idle_seconds,
            tuning=tuning,
        )
        self._seeder = Seeder(self._book, clock=self._clock, seeds=seeds, when_done=self._ask_soon)
        self._expected = max(1, expected_workers)
        self._lease = lease_seconds
        self._active: dict[str, Meter] = {}
        self._reactions = Reactions(clock=self._clock)
        self._refuser = Refuser(shaping, self._clock)
        self._roster: tuple[str, ...] = ()
        self._trouble: str = ""
        self._retry_at = -math.inf
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._swept_at = self._monotonic()
        self._epoch = ""
        self._is_newcomer = True
        self._alarm_again_at = -math.inf
        self._is_closing = False
        self._grace_until = self._monotonic() + GRACE_SECONDS

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
        self._miss(meter, now)
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
            if found:
                self._react(permit.demand, outcome, found, now)

    # --- for the database's thread -----------------------------------------------------------

    def change_limits(self, snapshot: LimitsSnapshot) -> None:
        """Take what the database says now. Call it on the loop."""
        for meter in self._book.change_limits(snapshot):
            self._active.pop(meter.key, None)

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

    async def close(self) -> None:
        """Stop asking; leases end by themselves."""
        self._is_closing = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            # A client library may swallow the cancellation; then the flag ends the loop.
            await asyncio.wait({task}, timeout=2.0)
        self._seeder.close()
        await self._store.close()

    # --- room --------------------------------------------------------------------------------

    def _try(self, share: LaneShare, demand: Demand, now: float) -> LanePermit | tuple[str, Meter]:
        """Take a place in the lane and in all other limits of `demand`, or say which has none."""
        code = share.block(now)
        if code:
            return code, share.meter
        scopes: tuple[Meter, ...] = ()
        if self._book.snapshot.overrides:
            scopes = self._book.meters_for(demand)
            for meter in scopes:
                code = meter.block(now)
                if code:
                    return code, meter
            for meter in scopes:
                meter.take(now)
                if not meter.is_listed:
                    self._list(meter)
        if not share.meter.is_listed:
            self._list(share.meter)
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
            self._miss(meter, now)
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

    def _miss(self, meter: Meter, now: float) -> None:
        """Note that somebody found no room, and ask for more soon."""
        meter.refused += 1
        if not meter.is_listed:
            self._list(meter)
        if meter.refused == 1 and now - meter.asked_at > _HASTE_SECONDS:
            self._ask_soon()

    def _list(self, meter: Meter) -> None:
        meter.is_listed = True
        self._active[meter.key] = meter
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._keep_asking())

    def _ask_soon(self) -> None:
        self._wanted.set()

    def _refusal(self, share: LaneShare, demand: Demand, code: str, meter: Meter) -> Refusal:
        return self._refuser.refusal(share, demand, code, meter, self._book.snapshot.names)

    # --- reactions ---------------------------------------------------------------------------

    def _react(
        self,
        demand: Demand,
        outcome: Outcome,
        found: tuple[Reaction, ...],
        now: float,
    ) -> None:
        for reaction in self._reactions.due(found, demand, outcome, now=now):
            self._carry_out(reaction, demand, outcome, now)

    def _carry_out(self, reaction: Reaction, demand: Demand, outcome: Outcome, now: float) -> None:
        lane = demand.lane
        share = self._book.lanes.get(lane)
        if share is not None:
            share.meet(reaction, now)
        source = outcome.source_address or self._book.snapshot.names.get(lane.source_id, "")
        self._reactions.carry_out(reaction, demand, outcome, source=source, now=now)

    async def _count_replies(self) -> None:
        """Count with all workers what needs several replies; alone where Valkey is away."""
        counted = self._reactions.take_counted()
        if not counted:
            return
        due = [one.is_due_here for one in counted]
        if self._monotonic() >= self._retry_at:
            try:
                due = await self._store.count(
                    [
                        (one.name, one.replies, one.reaction.times, one.reaction.within_seconds)
                        for one in counted
                    ]
                )
            except ValkeyTrouble as trouble:
                self._lost(trouble)
        for one, is_due in zip(counted, due, strict=True):
            if is_due:
                self._carry_out(one.reaction, one.demand, one.outcome, self._monotonic())

    # --- asking ------------------------------------------------------------------------------

    async def _keep_asking(self) -> None:
        while not self._is_closing:
            try:
                await self._round()
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("the throttle's round failed; it goes on")
                await asyncio.sleep(_ASK_SECONDS)
            try:
                async with asyncio.timeout(_HASTE_SECONDS):
                    await self._wanted.wait()
                self._wanted.clear()
            except TimeoutError:
                pass

    async def _round(self) -> None:
        now = self._monotonic()
        if now - self._swept_at > 5.0:
            self._swept_at = now
            self._book.sweep(now)
        await self._count_replies()
        due = [meter for meter in self._active.values() if self._is_due(meter, now)]
        due = self._seeder.without_new(due)
        if not due:
            return
        if now < self._retry_at:
            self._fall_back(due)
            return
        for start in range(0, len(due), _MOST_ASKS):
            await self._ask(due[start : start + _MOST_ASKS])

    def _is_due(self, meter: Meter, now: float) -> bool:
        since = now - meter.asked_at
        if self._must_tell(meter):
            return True
        if meter.used or meter.refused or meter.waiting:
            short = meter.refused or meter.waiting
            return since >= (_HASTE_SECONDS if short and self._may_hurry(meter) else _ASK_SECONDS)
        return since >= _QUIET_SECONDS

    def _must_tell(self, meter: Meter) -> bool:
        share = self._book.by_key.get(meter.key)
        is_short = self._monotonic() - meter.asked_at < _HASTE_SECONDS
        return share is not None and share.must_tell and not (is_short or self._trouble)

    def _may_hurry(self, meter: Meter) -> bool:
        share = self._book.by_key.get(meter.key)
        is_shut = share is not None and share.shut_until > self._monotonic()
        return not is_shut and not self._trouble and meter.short == "rate"

    async def _ask(self, due: list[Meter]) -> None:
        now = self._monotonic()
        asks: list[Ask] = []
        for meter in due:
            share = self._book.by_key.get(meter.key)
            ask = meter.ask(now, most=share.allowed if share is not None else None)
            if share is not None:
                share.tell(ask)
            asks.append(ask)
        told = self._reactions.take_told()
        try:
            for key, field, stop in told:
                await self._store.react(key, field, stop)
            told = []
            answer = await self._store.ask(asks)
        except ValkeyTrouble as trouble:
            self._reactions.tell_again(told)
            for meter, ask in zip(due, asks, strict=True):
                self._unanswered(meter, ask)
            self._lost(trouble)
            self._fall_back(due)
            return
        self._found()
        # Who is new here need not fear that he holds something; who knew another memory must.
        self._is_newcomer = not self._epoch or (self._is_newcomer and self._epoch == answer.epoch)
        self._epoch = answer.epoch
        self._roster = answer.roster
        for meter, ask, grant in zip(due, asks, answer.grants, strict=True):
            if grant is None:
                self._unanswered(meter, ask)
            else:
                self._granted(meter, grant)
        self._drop_quiet(due)

    def _unanswered(self, meter: Meter, ask: Ask) -> None:
        meter.failed()
        share = self._book.by_key.get(meter.key)
        if share is not None:
            share.tell_again(ask)

    def _granted(self, meter: Meter, grant: Grant) -> None:
        now = self._monotonic()
        share = self._book.by_key.get(meter.key)
        if share is not None:
            share.hear(grant.state, now)
            if grant.window is not None:
                share.hear_window(grant.window)
        if grant.settling_seconds > 0:
            meter.remember(grant)
            grace = -math.inf if self._is_newcomer else math.inf
            window = share.allowed if share is not None else None
            meter.fall_back(now, self._wall(), self._crew(), grace_until=grace, window=window)
        else:
            meter.apply(grant, now, lease_seconds=self._lease)
        self._wake(meter, share)

    def _fall_back(self, due: list[Meter]) -> None:
        now, wall, crew = self._monotonic(), self._wall(), self._crew()
        for meter in due:
            meter.asked_at = now
            share = self._book.by_key.get(meter.key)
            window = share.allowed if share is not None else None
            meter.fall_back(now, wall, crew, grace_until=self._grace_until, window=window)
            self._wake(meter, share)
            meter.refused = 0

    def _wake(self, meter: Meter, share: LaneShare | None) -> None:
        if share is not None:
            if share.waiters:
                self._serve(share)
            return
        for other in self._book:
            if other.waiters:
                self._serve(other)

    def _crew(self) -> Crew:
        roster = self._roster
        place = roster.index(self._worker) if self._worker in roster else None
        return Crew(max(len(roster), self._expected), place)

    def _wall(self) -> float:
        return self._clock.now().timestamp()

    def _lost(self, trouble: ValkeyTrouble) -> None:
        now = self._monotonic()
        self._retry_at = now + 1.0
        if self._trouble == trouble.kind and now < self._alarm_again_at:
            return
        # Said again and again: many workers share one alert, and it is over when none says it.
        self._alarm_again_at = now + ALARM_SECONDS
        if not self._trouble and self._epoch:
            self._grace_until = self._monotonic() + GRACE_SECONDS
        self._trouble = trouble.kind
        log.warning("limits are divided locally, Valkey is %s: %s", trouble.kind, trouble)
        words = {
            "away": "does not answer",
            "slow": "answers too slowly",
            "full": "is full and takes nothing",
        }
        self._alarm(
            Alarm(
                code=ALARM_CODE,
                is_on=True,
                title=f"Valkey {words[trouble.kind]}: each worker keeps to its own part of limits",
                detail=(
                    "Mail goes on, slower: limits are divided by the number of workers. It ends by "
                    f"itself when Valkey answers again. The last error: {trouble}"
                ),
            )
        )

    def _found(self) -> None:
        self._retry_at = -math.inf
        if self._trouble:
            self._trouble = ""
            log.info("Valkey answers again: limits are shared")
            self._alarm(Alarm(code=ALARM_CODE, is_on=False))

    # --- tidying -----------------------------------------------------------------------------

    def _drop_quiet(self, meters: list[Meter]) -> None:
        """Forget about asking for what holds nothing any more."""
        for meter in meters:
            now = self._monotonic()
            if (
                not (meter.used or meter.refused or meter.waiting or meter.in_use)
                and meter.held(now) == 0
                and now - meter.used_at > _QUIET_SECONDS
            ):
                meter.is_listed = False
                meter.fresh_until = -math.inf
                self._active.pop(meter.key, None)
