"""One lane in one worker: its share, what it learned, who waits, why it is shut."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, replace

from esp.lib.clock import Clock
from sending.engine.ports import Demand, Lane, Outcome, Permit, Refusal
from sending.engine.shaping.adaptive import AdaptiveConcurrency, Learned, Tuning
from sending.engine.shaping.limits import Limits, Reaction
from sending.lanes.grants import Ask, Stop, Window
from sending.lanes.meters import Meter
from sending.lanes.reactions import without_addresses
from sending.lanes.types import Closed, LaneCount, Quota

# An idle session is kept for 5 s; a little less is counted on.
_IDLE_SECONDS = 4.5
# What says that Valkey was not asked for anything, or gave nothing; it is worth another question
# after some time.
_TO_ASK = frozenset({"cold", "connections", "asking"})
_ASK_AGAIN_SECONDS = 0.75


class Spread:
    """Gives refused messages their turns: each 1 / rate after the one before, within bounds.

    Each batch has a horizon of its own, so that a receipt does not stand behind a campaign.
    """

    def __init__(self, size: int = 64) -> None:
        self._size = size
        self._turns: OrderedDict[str, float] = OrderedDict()

    def turn(self, name: str, *, opens_at: float, rate: float, most: float, now: float) -> float:
        """Return in how many seconds to ask again; `opens_at` is when there may be room."""
        earliest = max(opens_at, now)
        turn = max(self._turns.get(name, -math.inf) + 1.0 / rate, earliest)
        if turn > earliest + most:
            turn = earliest  # the row is full: the next round begins at its front
        self._turns[name] = turn
        self._turns.move_to_end(name)
        if len(self._turns) > self._size:
            self._turns.popitem(last=False)
        return turn - now


class Waiter:
    """Somebody in line for a permit."""

    __slots__ = ("demand", "future", "timer")

    def __init__(self, demand: Demand, future: asyncio.Future[Permit | Refusal]) -> None:
        self.demand = demand
        self.future = future
        self.timer: asyncio.TimerHandle | None = None


class LaneShare:
    """What one worker knows and has of a lane."""

    def __init__(
        self,
        lane: Lane,
        quota: Quota,
        *,
        is_known: bool,
        clock: Clock,
        idle_seconds: float,
        tuning: Tuning | None = None,
    ) -> None:
        self.lane = lane
        self.key = f"lane:{lane.source_id}|{lane.site}"
        self.quota = quota
        self.meter = Meter("lane", self.key, quota, idle_seconds=idle_seconds)
        self.adaptive = AdaptiveConcurrency(
            _bounds(quota), clock=clock, is_known=is_known, tuning=tuning
        )
        self.allowed = self.adaptive.connections
        self.cap: int | None = None
        self.waiters: deque[Waiter] = deque()
        self.spread = Spread()
        self.shut_until = -math.inf
        self.shut_by: Stop | None = None
        self.wake: asyncio.TimerHandle | None = None
        self.closed: Closed | None = None
        self._closed_until = -math.inf
        self._idle: deque[float] = deque()
        self._ceiling: float | None = None
        self._next_at = -math.inf
        self._slowed_until = -math.inf
        self._one_until = -math.inf
        # What the other workers have not heard yet: the hardest cut, and growth.
        self._cut = 1.0
        self._has_grown = self._has_risen = False
        self._cuts = self._raises = 0
        self._cut_at = ""
        self._count: LaneCount | None = None
        self._older: list[LaneCount] = []
        self._hour_ends = dt.datetime.min.replace(tzinfo=dt.UTC)

    def change(self, quota: Quota, cap: int | None) -> None:
        """Take other limits and today's cap; what was learned stays."""
        if quota == self.quota and cap == self.cap:
            return
        self.quota, self.cap = quota, cap
        day = quota.per_day
        if cap is not None:
            day = cap if day is None else min(day, cap)
        self.meter.change(replace(quota, per_day=day))
        self.adaptive.change_limits(_bounds(quota))
        self.allowed = self.adaptive.connections

    # --- room --------------------------------------------------------------------------------

    def block(self, now: float) -> str:
        """Return "" when one more may go, else what is in its way."""
        if now < self.shut_until or now < self._closed_until:
            return "shut"
        code = self.meter.block(now)
        if code:
            return code
        if self.meter.in_use >= self.allowed:
            return "narrowed"
        if now < self._next_at:
            return "slowed"
        if self.meter.openings < 1.0 and not self._has_idle(now):
            return "asking" if self.meter.may_ask else "opening"
        return ""

    def places(self, now: float) -> int:
        """Return how many more may go now, nobody being in line for them.

        One, now and then, for a lane that this worker has left to the others: only by asking can it
        know.
        """
        if self.waiters:
            return 0
        code = self.block(now)
        if code:
            is_left = code in _TO_ASK and not self.meter.in_use
            return int(is_left and now - self.meter.refused_at > _ASK_AGAIN_SECONDS)
        share = self.meter.share
        most = self.allowed if share is None else min(self.allowed, share)
        return most - self.meter.in_use

    def take(self, now: float) -> bool:
        """Count one in; returns whether it goes by a connection that is (believed to be) open."""
        self.meter.take(now)
        ceiling = self._ceiling
        if ceiling is not None:
            self._next_at = max(self._next_at, now - 0.05) + 1.0 / ceiling
        if self.meter.openings == math.inf:
            return True
        if self._has_idle(now):
            self._idle.pop()
            return True
        self.meter.open_one()
        return False

    def _has_idle(self, now: float) -> bool:
        idle = self._idle
        while idle and now - idle[0] > _IDLE_SECONDS:
            idle.popleft()
        # A connection in debt was opened where an idle one was counted on: count no more.
        return bool(idle) and self.meter.openings > -1.0

    def seconds_to_next(self, now: float) -> float:
        """Return when to look again for those in line; releases and grants come by themselves."""
        nearest = max(self.meter.next_at, self._next_at) - now
        return min(0.25, max(0.005, nearest))

    def rate_now(self) -> float:
        """Return how many messages a second may find room here, rather too many than too few."""
        meter = self.meter
        seen = max(meter.per_second, meter.per_second_now)
        rate = 2.0 * max(seen, min(self.allowed, meter.share or 1))
        if self.quota.per_second is not None:
            rate = min(rate, self.quota.per_second / meter.workers)
        return max(0.5, rate)

    def line_up(self, waiter: Waiter) -> None:
        """Put somebody in line: the batches that wait take turns, each in its own order."""
        batch = waiter.demand.batch
        before = sum(1 for one in self.waiters if one.demand.batch == batch)
        seen: Counter[str] = Counter()
        for place, one in enumerate(self.waiters):
            if seen[one.demand.batch] > before:
                self.waiters.insert(place, waiter)
                return
            seen[one.demand.batch] += 1
        self.waiters.append(waiter)

    # --- shut --------------------------------------------------------------------------------

    def close(self, closed: Closed | None, *, now: float, wall: dt.datetime) -> None:
        """Take what the database says: shut by an operator, by an earlier reaction, or open."""
        self.closed = closed
        if closed is None:
            self._closed_until = -math.inf
        elif closed.until is None:
            self._closed_until = math.inf
        else:
            self._closed_until = now + (closed.until - wall).total_seconds()

    def closed_until(self, now: float) -> float:
        """Return when the lane opens; infinity for a pause."""
        return max(self.shut_until, self._closed_until)

    def is_in_trouble(self, now: float) -> bool:
        """Whether something was learned or ordered here that must not be forgotten."""
        ends = max(self.closed_until(now), self._slowed_until, self._one_until)
        return now < ends or self.adaptive.per_second is not None

    # --- learning ----------------------------------------------------------------------------

    def learn(self, permit: LanePermit, outcome: Outcome, now: float) -> None:
        """Learn from an outcome: connections, rate, what is open now."""
        if self.meter.openings != math.inf:
            opened = "connect" in outcome.timings
            if opened and permit.is_reuse:
                self.meter.open_one()
            elif not opened and not permit.is_reuse:
                self.meter.not_opened()
            if outcome.smtp_code is not None:
                self._idle.append(now)
        adaptive = self.adaptive
        window = adaptive.window
        adaptive.observe(outcome)
        if adaptive.cuts != self._cuts:
            self._cuts = adaptive.cuts
            self._cut = min(self._cut, adaptive.last_factor)
        elif adaptive.window > window:
            self._has_grown = True
        if adaptive.window != window:
            self.allowed = adaptive.connections
        if adaptive.raises != self._raises:
            self._raises = adaptive.raises
            self._has_risen = True
        self._ceiling = adaptive.per_second

    @property
    def must_tell(self) -> bool:
        """Whether the lane was cut and the other workers do not know it."""
        return self._cut < 1.0

    def meet(self, reaction: Reaction, now: float) -> None:
        """Follow a reaction to a reply of this worker; the others hear of it with their grants."""
        self.react(reaction, now)
        if reaction.kind == "slow_down":
            self._cut = min(self._cut, reaction.factor)
        elif reaction.kind == "one_connection":
            self._cut = 0.0

    def restore(self, connections: float) -> None:
        """Go on with what the lane bore before all its workers were restarted."""
        if connections >= 1.0 and not self._cut_at:
            self.adaptive.restore(Learned(connections, None, 0.0))
            self.allowed = self.adaptive.connections

    def tell(self, ask: Ask) -> None:
        """Put into a question what was learned since the last one."""
        adaptive = self.adaptive
        ask.window, ask.cut, ask.has_grown = adaptive.window, self._cut, self._has_grown
        ask.ceiling, ask.has_risen = adaptive.ceiling or 0.0, self._has_risen
        ask.tuning = adaptive.tuning
        self._cut, self._has_grown, self._has_risen = 1.0, False, False

    def tell_again(self, ask: Ask) -> None:
        """Keep what a question that got no answer said."""
        self._cut = min(self._cut, ask.cut)

    def hear_window(self, window: Window, workers: int) -> None:
        """Take what all `workers` share, the rate in equal parts; yield where one had to."""
        if window.cut_at != self._cut_at:
            if self._cut_at:
                self.adaptive.heard_of_cut(window.factor)
            self._cut_at = window.cut_at
            self._cuts = self.adaptive.cuts
        bears = window.connections
        self.adaptive.share(min(bears, self.adaptive.window) if self.must_tell else bears)
        if not self.must_tell:
            ceiling = window.ceiling / workers if window.ceiling is not None else None
            self.adaptive.share_rate(ceiling, window.step / workers, window.goal / workers)
        self.allowed = self.adaptive.connections
        self._ceiling = self.adaptive.per_second

    def react(self, reaction: Reaction, now: float) -> None:
        """Follow a reaction in this worker only."""
        ends = now + reaction.seconds
        if reaction.kind in ("suspend", "other_source"):
            if ends > self.shut_until:
                self.shut_until = ends
                self.shut_by = Stop(
                    reaction.seconds, 1.0, reaction.kind, reaction.rule, reaction.title
                )
            return
        if self.adaptive.react(reaction):
            self._cuts = self.adaptive.cuts
            self.allowed = self.adaptive.connections
            self._ceiling = self.adaptive.per_second
            if reaction.kind == "one_connection":
                self._one_until = max(self._one_until, ends)
            else:
                self._slowed_until = max(self._slowed_until, ends)

    def hear(self, state: dict[str, Stop], now: float) -> None:
        """Follow what other workers met. What was lifted in Valkey is lifted here."""
        stop = state.get("suspend")
        if stop is not None:
            self.shut_until, self.shut_by = now + stop.seconds, stop
        elif self.shut_by is not None:
            self.shut_until, self.shut_by = -math.inf, None
        for name, until in (("one", self._one_until), ("slow", self._slowed_until)):
            stop = state.get(name)
            if stop is None or now + stop.seconds <= until + 1.0:
                continue
            kind = "one_connection" if name == "one" else "slow_down"
            self.react(
                Reaction(kind, stop.rule, stop.title, stop.seconds, factor=stop.factor),  # type: ignore[arg-type]
                now,
            )

    # --- counting ----------------------------------------------------------------------------

    def tally(self, outcome: Outcome) -> None:
        """Count one try for the database."""
        count = self._count
        if count is None or not count.hour <= outcome.at < self._hour_ends:
            if count is not None:
                self._older.append(count)
            hour = outcome.at.replace(minute=0, second=0, microsecond=0)
            self._hour_ends = hour + dt.timedelta(hours=1)
            count = self._count = LaneCount(self.lane, outcome.at, hour)
        count.sent += 1
        count.at = outcome.at
        if outcome.kind == "delivered":
            count.delivered += 1
        else:
            if outcome.kind == "bounced":
                count.bounced += 1
            else:
                count.deferred += 1
            count.last_reply = without_addresses(outcome.text)[:300]

    def take_counts(self) -> list[LaneCount]:
        """Return what was counted since the last time."""
        taken = [*self._older, *([self._count] if self._count is not None else [])]
        for one in taken:
            one.concurrency = float(self.allowed)
        self._count = None
        self._older = []
        return taken


@dataclass(slots=True)
class LanePermit(Permit):
    """A permit that knows what it was taken from, and whether it counts on an open connection."""

    share: LaneShare
    scopes: tuple[Meter, ...]
    is_reuse: bool


def _bounds(quota: Quota) -> Limits:
    """Return what adaptive concurrency moves in; rates are held by the meter."""
    return Limits(
        connections=quota.connections or 10_000,
        messages_per_connection=quota.messages_per_connection or 100,
    )
