"""Asking Valkey for this worker's shares: what is due in one round trip, twice a second.

A worker that ran short asks sooner, one that only holds something renews it now and then. While
Valkey does not answer, each round divides the limits locally.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

from esp.lib.clock import Clock
from sending.engine.ports import Demand, Outcome
from sending.engine.shaping.limits import Reaction
from sending.lanes.book import Book
from sending.lanes.grants import Ask, Grant, GrantStore, ValkeyTrouble
from sending.lanes.lane import LaneShare
from sending.lanes.meters import Crew, Meter
from sending.lanes.reactions import Reactions
from sending.lanes.seeding import Seeder, Seeds
from sending.lanes.trouble import Trouble
from sending.lanes.types import Alarm

log = logging.getLogger(__name__)

_ASK_SECONDS = 0.5
_HASTE_SECONDS = 0.1  # how soon a worker that ran short may ask again
_QUIET_SECONDS = 3.0  # how often a lane without demand renews what it still holds
_MOST_ASKS = 500  # in one round trip


class Asker:
    """Keeps the meters of `book` that are in use supplied, from the loop of one worker.

    `serve` is called for a lane that may have room now, `carry_out` for a reaction that became due
    by the replies of all workers together. The rest is that of `SharedThrottle`.
    """

    def __init__(
        self,
        store: GrantStore,
        *,
        book: Book,
        reactions: Reactions,
        clock: Clock,
        worker: str,
        expected_workers: int,
        lease_seconds: float,
        seeds: Seeds | None,
        alarm: Callable[[Alarm], None],
        serve: Callable[[LaneShare], None],
        carry_out: Callable[[Reaction, Demand, Outcome], None],
    ) -> None:
        self._store = store
        self._book = book
        self._reactions = reactions
        self._clock = clock
        self._monotonic = clock.monotonic
        self._worker = worker
        self._expected = max(1, expected_workers)
        self._lease = lease_seconds
        self._serve = serve
        self._carry_out = carry_out
        self._seeder = Seeder(book, clock=clock, seeds=seeds, when_done=self.soon)
        self._trouble = Trouble(clock=clock, alarm=alarm)
        self._active: dict[str, Meter] = {}
        self._roster: tuple[str, ...] = ()
        self._epoch = ""
        self._is_newcomer = True
        self._swept_at = clock.monotonic()
        self._wanted = asyncio.Event()
        self._asking = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False

    def enlist(self, meter: Meter) -> None:
        """Ask for `meter` from now on, until it is quiet."""
        meter.is_listed = True
        self._active[meter.key] = meter
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._keep_asking())

    def forget(self, meter: Meter) -> None:
        """Ask no more for a meter whose limit is gone."""
        self._active.pop(meter.key, None)

    def miss(self, meter: Meter, now: float) -> None:
        """Note that somebody found no room, and ask for more soon."""
        meter.refused += 1
        meter.refused_at = now
        if not meter.is_listed:
            self.enlist(meter)
        if meter.refused == 1 and now - meter.asked_at > _HASTE_SECONDS:
            self.soon()

    def soon(self) -> None:
        """Begin the next round now."""
        self._wanted.set()

    async def rest(self) -> None:
        """Give back what is left of hours and days: this worker may ask for nothing for long."""
        left = [meter for meter in self._active.values() if meter.is_counted]
        for start in range(0, len(left), _MOST_ASKS):
            if self._trouble.rests(self._monotonic()):
                return
            await self._ask(left[start : start + _MOST_ASKS], is_last=True)

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

    # --- rounds ------------------------------------------------------------------------------

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
        if self._trouble.rests(now):
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
        return share is not None and share.must_tell and not (is_short or self._trouble.is_on)

    def _may_hurry(self, meter: Meter) -> bool:
        share = self._book.by_key.get(meter.key)
        is_shut = share is not None and share.shut_until > self._monotonic()
        return not is_shut and not self._trouble.is_on and meter.short == "rate"

    async def _ask(self, due: list[Meter], *, is_last: bool = False) -> None:
        # One question after the other: two under way would give the same messages back.
        async with self._asking:
            await self._exchange(due, is_last=is_last)

    async def _exchange(self, due: list[Meter], *, is_last: bool) -> None:
        now = self._monotonic()
        asks: list[Ask] = []
        for meter in due:
            share = self._book.by_key.get(meter.key)
            most = share.allowed if share is not None else None
            ask = meter.give_all(now) if is_last else meter.ask(now, most=most)
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
            self._trouble.lost(trouble, had_answers=bool(self._epoch))
            self._fall_back(due)
            return
        self._trouble.found()
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
                share.hear_window(grant.window, grant.workers)
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
            meter.fall_back(now, wall, crew, grace_until=self._trouble.grace_until, window=window)
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

    async def _count_replies(self) -> None:
        """Count with all workers what needs several replies; alone where Valkey is away."""
        counted = self._reactions.take_counted()
        if not counted:
            return
        due = [one.is_due_here for one in counted]
        if not self._trouble.rests(self._monotonic()):
            try:
                due = await self._store.count(
                    [
                        (one.name, one.replies, one.reaction.times, one.reaction.within_seconds)
                        for one in counted
                    ]
                )
            except ValkeyTrouble as trouble:
                self._trouble.lost(trouble, had_answers=bool(self._epoch))
        for one, is_due in zip(counted, due, strict=True):
            if is_due:
                self._carry_out(one.reaction, one.demand, one.outcome)

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
