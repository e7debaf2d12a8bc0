"""One worker's share of one limited thing: spent here without asking anybody."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace

from sending.lanes.grants import HORIZON_SECONDS, Ask, Grant
from sending.lanes.types import Quota

# What was granted must be used soon, or others' seconds would meet it.
_TOKEN_SECONDS = 1.0
# A message that comes late by no more than this does not shift those behind it.
_SLACK_SECONDS = 0.05
# How long after losing Valkey others may still use what they were granted.
GRACE_SECONDS = 8.0
_FORGET_STAMP_SECONDS = 60.0
_MEASURE_SECONDS = 5.0
_MARGIN = 0.02


@dataclass(frozen=True, slots=True)
class Crew:
    """The workers among whom limits are divided while Valkey does not do it.

    `place` is this worker's among them in the order of names, None when it is not known there.
    """

    size: int
    place: int | None

    def part_of(self, limit: int) -> int:
        """Return this worker's part of `limit`; the parts add up to no more than it."""
        part, rest = divmod(limit, self.size)
        return part + (1 if self.place is not None and self.place < rest else 0)


class Meter:
    """Connections in use and messages left of one limited thing, in one worker."""

    def __init__(self, kind: str, key: str, quota: Quota, *, idle_seconds: float = 6.0) -> None:
        """Start with nothing; sessions without a message stay open for `idle_seconds` at most."""
        self.kind = kind
        self.key = key
        self.in_use = 0
        self.share: int | None = 0
        self.tokens = 0.0
        self.tokens_until = -math.inf
        self.next_at = -math.inf
        self.gap = 0.0
        self.openings = 0.0
        self.may_ask = True  # for more openings: the last question got all that it wanted
        self._wanted_openings = 0
        self._debt, self._opened = 0.0, 0
        self.fresh_until = -math.inf
        self.used = self.refused = self.waiting = 0
        self.used_at = -math.inf
        self.asked_at = self.refused_at = -math.inf
        self.is_listed = False
        self.seeded = False
        self.short = "rate"  # which limit gave nothing: rate, hour, day
        self.workers = 1
        self._spent = 0  # counted in before `used` was set back, and not told to the database yet
        self._idle_seconds = idle_seconds
        self._peak = 0  # the most in use since the moment of the last entry of `_peaks`
        self._peaks: deque[tuple[float, int]] = deque()
        self._stamp = ""
        self._hour: tuple[int, int] = (0, 0)
        self._day: tuple[int, int] = (0, 0)
        self._hour_extra: tuple[int, int] = (0, 0)
        self._day_extra: tuple[int, int] = (0, 0)
        self._bases: dict[int, tuple[int, int]] = {}
        self._own: dict[int, tuple[int, int]] = {}
        self._is_alone = False
        self._wall = 0.0
        self.per_second = 0.0  # over some seconds
        self.per_second_now = 0.0  # between the last two questions
        self._tat = self._open_tat = -math.inf
        self.change(quota)

    def change(self, quota: Quota) -> None:
        """Take other limits; they hold from the next grant on, connections at once."""
        self.quota = quota
        rates = (quota.per_second, quota.per_minute, quota.per_hour, quota.per_day)
        self.is_limited = any(rate is not None for rate in rates)
        if quota.connections is not None and (self.share is None or self.share > quota.connections):
            self.share = quota.connections

    @property
    def is_counted(self) -> bool:
        """Whether an hour or a day has a limit: what is granted and not used of it is missed."""
        return self.quota.per_hour is not None or self.quota.per_day is not None

    @property
    def needs_seed(self) -> bool:
        """Whether the database knows more of it than anybody here, and has not been asked."""
        return not self.seeded

    # --- the fast path -----------------------------------------------------------------------

    def block(self, now: float) -> str:
        """Return "" when there is room for one more, else "cold", "connections" or "rate"."""
        if now >= self.fresh_until:
            return "cold"
        if self.share is not None and self.in_use >= self.share:
            # Who may send no more today is given no connections either: that is not the reason.
            is_used_up = self.is_limited and self.tokens < 1.0 and self.short != "rate"
            return "rate" if is_used_up else "connections"
        if self.is_limited and (
            self.tokens < 1.0 or now < self.next_at or now >= self.tokens_until
        ):
            return "rate"
        return ""

    def is_over(self, wall: float) -> bool:
        """Tell whether the hour or day that was used up has ended: nothing is known of the next."""
        windows = {"hour": (self._hour[0], 3600), "day": (self._day[0], 86400)}
        window, seconds = windows.get(self.short, (0, 0))
        return bool(seconds) and int(wall // seconds) > window

    def take(self, now: float) -> None:
        """Count one message in; only after `block` said "" at the same `now`."""
        self.in_use = in_use = self.in_use + 1
        if in_use > self._peak:  # noqa: PLR1730 (half the time of max)
            self._peak = in_use
        if self.is_limited:
            self.tokens -= 1.0
            self.next_at = max(self.next_at, now - _SLACK_SECONDS) + self.gap
        self.used += 1
        self.used_at = now

    def give_back(self) -> None:
        """Count one message out; what it has used of the rates is used."""
        self.in_use -= 1

    def open_one(self) -> None:
        """Count one opened connection, foreseen or not."""
        self.openings -= 1.0
        self._opened += 1

    def not_opened(self) -> None:
        """Give an opening back that was not needed."""
        self.openings += 1.0
        self._opened -= 1

    def failed(self) -> None:
        """An answer got lost: what was handed back with the question may not be spent twice."""
        self.tokens = min(0.0, self.tokens)
        self.openings = min(0.0, self.openings)

    # --- asking ------------------------------------------------------------------------------

    def held(self, now: float) -> int:
        """Return how many connections may be open, counting idle sessions."""
        peaks = self._peaks
        if self._peak or self.in_use:
            peaks.append((now, self._peak))
            self._peak = self.in_use
        while peaks and now - peaks[0][0] > self._idle_seconds:
            peaks.popleft()
        return max((peak for _, peak in peaks), default=self.in_use)

    def ask(self, now: float, *, most: int | None) -> Ask:
        """Say what this worker needs for the next moments; `most` bounds the connections.

        Unspent messages go back with the question; what is spent of them while it is under way is
        taken off the answer. Those whose time is over cannot be spent, but the hour has them still.
        """
        if now - self.asked_at > _FORGET_STAMP_SECONDS:
            self._stamp = ""
        busy = self.used or self.refused or self.waiting
        held = self.held(now)
        want = max(held, self.in_use + self.waiting + min(self.refused, 1000)) + 1 if busy else 0
        want = max(want if most is None else min(want, most), self.in_use)
        hungry = self.waiting or self.refused
        messages = (10_000 if hungry else 2 * self.used + 8) if self.is_limited and busy else 0
        unspent = expired = unopened = 0
        left = int(self.tokens) if self.is_limited and 0 < self.tokens < math.inf else 0
        if self.is_limited and now >= self.tokens_until:
            self.tokens = min(0.0, self.tokens)
        if self._is_alone:  # what is left was never Valkey's
            self._count_own()
        else:
            expired = left if now >= self.tokens_until else 0
            unspent = left - expired
            unopened = int(self.openings) if 0 < self.openings < math.inf else 0
        self._debt = min(0.0, self.openings)
        self._opened = 0
        since = now - self.asked_at
        if since > 0.05:
            fade = math.exp(-since / _MEASURE_SECONDS)
            self.per_second_now = self.used / since
            self.per_second = self.per_second * fade + (1.0 - fade) * self.per_second_now
        self.asked_at = now
        self._spent += self.used
        self.used = self.refused = 0
        quota = self.quota
        debt = math.ceil(-self._debt)  # paid off by what is asked for as well
        self._wanted_openings = want + debt if busy else 0
        return Ask(
            key=self.key,
            want=want,
            held=held if quota.connections is not None else 0,
            messages=messages,
            unspent=unspent,
            expired=expired,
            openings=self._wanted_openings,
            unopened=unopened,
            connections=quota.connections,
            per_second=quota.per_second,
            per_minute=quota.per_minute,
            per_hour=quota.per_hour,
            per_day=quota.per_day,
            connections_per_minute=quota.connections_per_minute,
            hour=(*self._hour, _count_in(self._hour_extra, self._hour[0])),
            day=(*self._day, _count_in(self._day_extra, self._day[0])),
            stamp=self._stamp,
            rate=self.per_second,
            in_use=self.in_use,
        )

    def give_all(self, now: float) -> Ask:
        """Say that nothing is needed, and give back what is left."""
        return replace(self.ask(now, most=0), want=self.in_use, messages=0, openings=0)

    def apply(self, grant: Grant, now: float, *, lease_seconds: float) -> None:
        """Take a share that Valkey gave."""
        self._is_alone = False
        self._tat = self._open_tat = -math.inf
        self._stamp = grant.stamp
        self._hour, self._day = grant.hour, grant.day
        self._hour_extra = self._day_extra = (0, 0)
        self._spendable(grant, now, lease_seconds)

    def remember(self, grant: Grant) -> None:
        """Take over what a settling Valkey knows, while a part of our own is spent."""
        self._stamp = grant.stamp
        self._hour, self._day = grant.hour, grant.day
        self._hour_extra = self._day_extra = (0, 0)

    def _spendable(self, grant: Grant, now: float, seconds: float) -> None:
        limit = self.quota.connections
        self.share = None if limit is None else min(limit, grant.connections or 0)
        self.workers = grant.workers
        self.fresh_until = now + seconds
        self.may_ask = grant.openings is None or grant.openings >= self._wanted_openings
        # Connections that were not foreseen are paid off first.
        self.openings = (
            math.inf if grant.openings is None else self._debt + grant.openings - self._opened
        )
        self._debt, self._opened = 0.0, 0
        if not self.is_limited or grant.messages is None:
            self.tokens, self.gap = math.inf, 0.0
            self.tokens_until = self.fresh_until
            return
        self.tokens = float(grant.messages - self.used)
        self.tokens_until = now + _TOKEN_SECONDS
        paced = self.quota.per_second is not None or self.quota.per_minute is not None
        self.gap = HORIZON_SECONDS / grant.messages if paced and grant.messages else 0.0
        if grant.messages == 0:
            self.short = self._what_is_short(grant)
            if grant.after_seconds > 0:
                self.next_at = now + grant.after_seconds
        self.next_at = max(min(self.next_at, now + self.gap), now) if grant.messages else (
            self.next_at
        )  # fmt: skip

    def _what_is_short(self, grant: Grant) -> str:
        quota = self.quota
        if quota.per_day is not None and grant.day[1] >= quota.per_day:
            return "day"
        if quota.per_hour is not None and grant.hour[1] >= quota.per_hour:
            return "hour"
        return "rate"

    def seed(self, hour: tuple[int, int], day: tuple[int, int]) -> None:
        """Know what the database has counted: (window since 1970, count)."""
        self.seeded = True
        if hour[0] > self._hour[0] or (hour[0] == self._hour[0] and hour[1] > self._hour[1]):
            self._hour = hour
        if day[0] > self._day[0] or (day[0] == self._day[0] and day[1] > self._day[1]):
            self._day = day

    def take_spent(self) -> int:
        """Return how many messages were counted in since the last time, as of the last question."""
        spent, self._spent = self._spent, 0
        return spent

    # --- without Valkey ----------------------------------------------------------------------

    def fall_back(
        self, now: float, wall: float, crew: Crew, *, grace_until: float, window: int | None
    ) -> None:
        """Take this worker's own part of the limits for the next moments.

        Of the `window` that a lane has learned it takes one connection at least: it is soft.
        Until `grace_until` others may still use what they were granted: connections do not grow,
        and messages start from nothing.
        """
        self._wall = wall
        if self._is_alone:
            self._count_own()
        else:
            self._is_alone = True
            self._bases = {3600: self._hour, 86400: self._day}
            self._own = {3600: (0, 0), 86400: (0, 0)}
            self._tat = self._open_tat = now + (_TOKEN_SECONDS if grace_until > now else 0.0)
        quota = self.quota
        share: int | None = None
        if quota.connections is not None:
            share = crew.part_of(quota.connections)
            if window is not None:
                share = min(share, max(1, crew.part_of(window)))
            if now < grace_until:
                share = min(share, self.share or 0)
        messages = self._own_messages(now, wall, crew, is_grace=now < grace_until)
        openings: int | None = None
        if quota.connections_per_minute is not None:
            rate = quota.connections_per_minute * 0.74 / 60 / crew.size
            openings = _whole(now - self._open_tat + HORIZON_SECONDS, rate, self._open_tat <= now)
            self._open_tat = max(self._open_tat, now - HORIZON_SECONDS) + openings / rate
        hour, day = self._hour, self._day
        self._spent += self.used
        self.used = 0
        self._debt, self._opened = min(0.0, self.openings), 0
        after = max(0.0, self._tat - now) if messages == 0 else 0.0
        self._spendable(
            Grant(0.0, share, messages, after, openings, hour, day, crew.size),
            now,
            _TOKEN_SECONDS,
        )

    def _own_messages(self, now: float, wall: float, crew: Crew, *, is_grace: bool) -> int | None:
        quota = self.quota
        if not self.is_limited:
            return None
        rates = [r for r in (quota.per_second, (quota.per_minute or 0) / 60 or None) if r]
        give = 1000
        if rates:
            rate = min(rates) * 0.9 / crew.size
            self._tat = max(self._tat, now)
            give = _whole(now + HORIZON_SECONDS - self._tat, rate, self._tat <= now)
            self._tat += give / rate
        for limit, seconds in ((quota.per_hour, 3600), (quota.per_day, 86400)):
            if limit is not None:
                give = 0 if is_grace else min(give, self._own_left(limit, seconds, wall, crew))
        return give

    def _count_own(self) -> None:
        """Count what was sent without Valkey since the last time, to tell it later."""
        for seconds in (3600, 86400):
            window = int(self._wall // seconds)
            self._own[seconds] = (window, _count_in(self._own[seconds], window) + self.used)
        window = int(self._wall // 3600)
        self._hour_extra = (window, _count_in(self._hour_extra, window) + self.used)
        window = int(self._wall // 86400)
        self._day_extra = (window, _count_in(self._day_extra, window) + self.used)

    def _own_left(self, limit: int, seconds: int, wall: float, crew: Crew) -> int:
        """Return what is left of this worker's part of what was left when Valkey was lost.

        A little is kept back for what others were granted after our last answer.
        """
        window = int(wall // seconds)
        left = max(0, limit - math.ceil(limit * _MARGIN) - _count_in(self._bases[seconds], window))
        return max(0, crew.part_of(left) - _count_in(self._own[seconds], window))


def _count_in(pair: tuple[int, int], window: int) -> int:
    return pair[1] if pair[0] == window else 0


def _whole(span: float, rate: float, is_due: bool) -> int:
    count = max(0, math.floor(span * rate + 1e-6))
    return max(count, 1) if is_due else count
