"""Finds how much a lane bears: one connection more while all is clean, half as many on a complaint.

Additive increase and multiplicative decrease, as TCP does it, for connections and for the rate. A
provider that nobody knows is met with two connections; what a provider's limits allow is never
exceeded. One object serves one lane in one process; it knows no clock but the one it is given.
Where several processes share a lane, `share`, `share_rate` and `heard_of_cut` keep their objects at
one.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from esp.lib.clock import Clock
from sending.engine.ports import Outcome
from sending.engine.shaping.limits import Limits, Reaction


@dataclass(frozen=True, slots=True)
class Tuning:
    """How carefully to go.

    A further connection is opened after `clean_per_step` clean replies for each one open, and
    `step_seconds` after the last change. Complaints within `calm_seconds` of a cut are of the same
    burst: parallel connections hear of one trouble at the same time. `failures_before_cut` is how
    many connections in a row may fail.
    """

    start: int = 2
    clean_per_step: int = 5
    step_seconds: float = 1.0
    cut: float = 0.5
    calm_seconds: float = 10.0
    failures_before_cut: int = 3
    least_per_second: float = 0.05
    rate_steps: int = 20
    rate_step_seconds: float = 15.0
    measure_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Learned:
    """What a lane has learned, in numbers that another process or a later one can go on with."""

    window: float
    ceiling_per_second: float | None
    frozen_seconds: float


class AdaptiveConcurrency:
    """The connections and the rate that a lane bears now, learned from what the site answers."""

    def __init__(
        self, limits: Limits, *, clock: Clock, is_known: bool = False, tuning: Tuning | None = None
    ) -> None:
        """Start with all of `limits.connections` for a known provider, else with a few."""
        self._tuning = tuning or Tuning()
        self._clock = clock
        self._limits = limits
        self._most_per_second = limits.rate_per_second
        start = limits.connections if is_known else self._tuning.start
        self._window = float(min(start, limits.connections))
        self._before_cut: tuple[float, float] = (self._window, math.inf)
        self._ceiling: float | None = None
        self._ceiling_step = 0.0
        self._ceiling_goal = 0.0
        now = clock.monotonic()
        self._born = now
        self._count = 0.0
        self._counted_at = now
        self._cut_at = -math.inf
        self._stepped_at = now
        self._rate_stepped_at = now
        self._frozen_until = -math.inf
        self._clean = 0
        self._failures = 0
        self.cuts = 0
        self.last_factor = 1.0
        self.raises = 0

    @property
    def window(self) -> float:
        """The connections that the lane bears, with what has grown of the next."""
        return self._window

    @property
    def connections(self) -> int:
        """How many connections may be open now; 1 at least, the limit at most."""
        return max(1, min(int(self._window), self._limits.connections))

    @property
    def per_second(self) -> float | None:
        """How many messages a second may go now; None while neither limit nor trouble says."""
        limit, ceiling = self._most_per_second, self._ceiling
        if limit is None or ceiling is None:
            return limit if ceiling is None else ceiling
        return min(limit, ceiling)

    @property
    def ceiling(self) -> float | None:
        """The messages a second that trouble has left this process; None without trouble."""
        return self._ceiling

    @property
    def tuning(self) -> Tuning:
        """How carefully it goes."""
        return self._tuning

    @property
    def is_slowed(self) -> bool:
        """Whether a reaction holds the lane down now, so that it must not grow."""
        return self._clock.monotonic() < self._frozen_until

    def change_limits(self, limits: Limits) -> None:
        """Take other limits from now on; what was learned stays."""
        self._limits = limits
        self._most_per_second = limits.rate_per_second

    def observe(self, outcome: Outcome) -> None:
        """Learn from one outcome in the lane; holds of our own teach nothing."""
        if outcome.phase in ("throttle", "render", "envelope", "mx", "slice"):
            return
        now = self._clock.monotonic()
        self._measure(now)
        if is_complaint(outcome):
            self.complained()
        elif outcome.smtp_code is None and outcome.kind == "deferred":
            self._failed(outcome)
        else:
            self._clean_reply(now)

    def complained(self) -> None:
        """Halve connections and rate, once for a burst of complaints."""
        if self._clock.monotonic() - self._cut_at >= self._tuning.calm_seconds:
            self._cut(self._tuning.cut)
        self._clean = 0

    def react(self, reaction: Reaction) -> bool:
        """Follow a rule's "slow_down" or "one_connection"; False when it asks for something else.

        The lane is cut and does not grow for `reaction.seconds`, then it recovers step by step.
        """
        now = self._clock.monotonic()
        if reaction.kind == "one_connection":
            self._window = 1.0
        elif reaction.kind != "slow_down":
            return False
        elif now - self._cut_at >= self._tuning.calm_seconds:
            self._cut(reaction.factor)
        else:
            # The complaint itself was just answered by a cut: the harder of both counts, not both.
            window, rate = self._before_cut
            self._window = min(self._window, max(1.0, window * reaction.factor))
            if self._ceiling is not None:
                self._ceiling = min(self._ceiling, self._bounded(rate * reaction.factor))
        self._clean = 0
        self._frozen_until = max(self._frozen_until, now + reaction.seconds)
        return True

    def share(self, window: float) -> None:
        """Go on with the window that all processes of the lane have found together."""
        self._window = max(1.0, min(window, float(self._limits.connections)))

    def share_rate(self, ceiling: float | None, step: float = 0.0, goal: float = 0.0) -> None:
        """Go on with this process's part of the rate that all of the lane have found together.

        It rises by `step` at a time and is given up at `goal`, all in messages a second.
        """
        if ceiling is None:
            self._ceiling = None
            return
        self._ceiling = self._bounded(ceiling)
        self._ceiling_step, self._ceiling_goal = step, max(goal, self._ceiling)

    def heard_of_cut(self, factor: float) -> None:
        """Yield as well when another process of the lane had to; bursts are still cut once."""
        if self._clock.monotonic() - self._cut_at >= self._tuning.calm_seconds:
            self._cut(factor)
        self._clean = 0

    def learned(self) -> Learned:
        """Return what to keep, for `restore` in another process or after a restart."""
        left = max(0.0, self._frozen_until - self._clock.monotonic())
        return Learned(self._window, self._ceiling, left)

    def restore(self, learned: Learned) -> None:
        """Go on from what was learned; nonsense is bounded, not believed."""
        self._window = max(1.0, min(learned.window, float(self._limits.connections)))
        self._frozen_until = self._clock.monotonic() + max(0.0, learned.frozen_seconds)
        self._ceiling = None
        if learned.ceiling_per_second is not None:
            self._set_ceiling(learned.ceiling_per_second, goal=learned.ceiling_per_second * 2)

    def _cut(self, factor: float) -> None:
        now = self._clock.monotonic()
        self.cuts += 1
        self.last_factor = factor
        rate = self._rate()
        if self._ceiling is not None:
            rate = min(rate, self._ceiling)
        self._before_cut = (self._window, rate)
        self._window = max(1.0, self._window * factor)
        self._set_ceiling(rate * factor, goal=rate * 2)
        self._cut_at = self._stepped_at = self._rate_stepped_at = now

    def _set_ceiling(self, rate: float, *, goal: float) -> None:
        self._ceiling = self._bounded(rate)
        self._ceiling_goal = max(goal, self._ceiling * 2)
        self._ceiling_step = (self._ceiling_goal - self._ceiling) / self._tuning.rate_steps

    def _bounded(self, rate: float) -> float:
        return max(self._tuning.least_per_second, rate)

    def _failed(self, outcome: Outcome) -> None:
        """Count connections that fail: some receivers say "too many" by not answering."""
        self._clean = 0
        if outcome.phase not in ("connect", "greeting"):
            return
        self._failures += 1
        if self._failures >= self._tuning.failures_before_cut:
            self._failures = 0
            self.complained()

    def _clean_reply(self, now: float) -> None:
        self._failures = 0
        if now < self._frozen_until:
            return
        self._clean += 1
        tuning = self._tuning
        if now - self._stepped_at >= tuning.step_seconds:
            self._step(now)
        if self._ceiling is not None and now - self._rate_stepped_at >= tuning.rate_step_seconds:
            self._rate_stepped_at = now
            self.raises += 1
            self._ceiling += self._ceiling_step
            if self._ceiling >= self._ceiling_goal:
                self._ceiling = None

    def _step(self, now: float) -> None:
        """Open one connection more where all those open have had enough clean replies."""
        if self._clean >= self._tuning.clean_per_step * self.connections:
            self._clean = 0
            self._stepped_at = now
            self._window = min(float(self._limits.connections), max(1.0, self._window) + 1.0)

    def _measure(self, now: float) -> None:
        fade = math.exp(-(now - self._counted_at) / self._tuning.measure_seconds)
        self._count = self._count * fade + 1.0
        self._counted_at = now

    def _rate(self) -> float:
        """Return the messages a second of late; a young lane is not taken for a slow one."""
        now = self._clock.monotonic()
        span = self._tuning.measure_seconds
        seen = span * (1.0 - math.exp(-max(1.0, now - self._born) / span))
        return self._count * math.exp(-(now - self._counted_at) / span) / seen


# Replies that speak of one mailbox, one company or one session: the wordings of the rules in
# `data/shaping.toml` that call for nothing.
_NOT_THE_LANE = re.compile(
    r"receiving mail|nexthop:|queue quota|over rate limit|deferred due to excessive volume"
    r"|recipient (?:has exceeded|thread limit)|too many recipients(?! received)"
    r"|(?:in|for|on) this (?:session|connection)|messages? per (?:session|connection) reached",
    re.IGNORECASE,
)
# Temporary refusals that speak of something else than how much we send.
_NOT_ABOUT_VOLUME = frozenset(
    {"soft/greylisted", "soft/mailbox-full", "soft/tls-failure", "block/auth-failure"}
)


def is_complaint(outcome: Outcome) -> bool:
    """Tell whether a reply complains of how much we send: 421, 4.7.x, or a limit in words.

    4.2.x speaks of one mailbox ("receiving mail at a rate that prevents…"), not of the lane;
    greylisting comes whatever the rate is.
    """
    code, enhanced = outcome.smtp_code, outcome.enhanced_code or ""
    if code is None or outcome.kind == "delivered" or enhanced[1:3] == ".2":
        return False
    if _NOT_THE_LANE.search(outcome.text[:600]):
        return False
    if outcome.classification == "soft/throttled":
        return True
    if code >= 500 or outcome.classification in _NOT_ABOUT_VOLUME:
        return False
    return code == 421 or enhanced.startswith("4.7.")
