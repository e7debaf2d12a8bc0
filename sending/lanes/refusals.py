"""Turns "no room" into a refusal: words for people, a hold code, and when to ask again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from esp.lib.clock import Clock
from sending.engine.ports import Demand, Refusal
from sending.engine.shaping.policy import Shaping
from sending.engine.shaping.sites import ROUTE_PREFIX
from sending.lanes import words
from sending.lanes.lane import LaneShare, Spread
from sending.lanes.meters import Meter

# However many wait: the last of them asks again within this time. Resuming a lane makes all due.
MOST_SECONDS = 6 * 3600.0
# What only waits for a connection or for its turn asks again within this: a lane that has just been
# opened soon bears more than was measured, and workers leave a destination that holds alone anyway.
SOON_MOST_SECONDS = 10.0
# A paused lane is looked at again after this; its resumption does not wait for it.
PAUSED_SECONDS = 300.0
_SOON_SECONDS = 0.5
# The holds of what waits for a connection of ours, and of what waits for its turn under a rate.
PLACE, TURN = "connections", "rate"
# Turns come a little faster than the limit, so that no place stays empty.
_EAGER = 1.2


class _Reason(NamedTuple):
    """`seconds` until there may be room, then `rate` messages a second for this worker.

    The last of those who wait asks again `most` seconds after that.
    """

    text: str
    hold: str
    seconds: float
    rate: float
    most: float = SOON_MOST_SECONDS


class Refuser:
    """Words the refusals of one worker and spreads the next tries."""

    def __init__(self, shaping: Shaping, clock: Clock) -> None:
        self._shaping = shaping
        self._clock = clock
        self._spreads: dict[str, Spread] = {}

    def refusal(
        self, share: LaneShare, demand: Demand, code: str, meter: Meter, names: Mapping[str, str]
    ) -> Refusal:
        """Return why `demand` has no room, by what `block` said of `meter`."""
        site = self._site(share.lane.site)
        source = names.get(share.lane.source_id) or "this host"
        if code == "shut":
            reason = self._shut(share, site, source)
        elif meter is not share.meter:
            reason = self._of_scope(code, meter)
        else:
            reason = self._of_lane(code, share, site, source)
        spread = share.spread
        if meter is not share.meter:
            if len(self._spreads) > 5000:
                self._spreads.clear()
            spread = self._spreads.setdefault(meter.key, Spread())
        now = self._clock.monotonic()
        seconds = spread.turn(
            demand.batch,
            opens_at=now + reason.seconds,
            rate=max(0.001, reason.rate * _EAGER),
            most=reason.most,
            now=now,
        )
        return Refusal(reason.text[:300], seconds, reason.hold)

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _site(self, site: str) -> str:
        if site.startswith(ROUTE_PREFIX):
            return f"the route {site.removeprefix(ROUTE_PREFIX)}"
        return self._shaping.site_title(site)

    def _shut(self, share: LaneShare, site: str, source: str) -> _Reason:
        rate = share.rate_now()
        closed, stop = share.closed, share.shut_by
        now = self._clock.monotonic()
        if closed is not None and closed.hold == "paused":
            why = f": {closed.reason}" if closed.reason else ""
            text = f"An operator has paused mail from {source} to {site}{why}."
            return _Reason(text, "paused", PAUSED_SECONDS, max(rate, 50.0), MOST_SECONDS)
        seconds = max(0.0, share.closed_until(now) - now)
        until = words.until_text(words.later(self._clock.now(), seconds))
        title = stop.title if stop is not None else (closed.reason if closed is not None else "")
        why = f": {title}" if title else ""
        text = f"Mail from {source} to {site} rests until {until}{why}."
        return _Reason(text, "suspended", seconds, rate, MOST_SECONDS)

    def _of_lane(self, code: str, share: LaneShare, site: str, source: str) -> _Reason:
        quota, meter = share.quota, share.meter
        if code == "connections" and quota.connections is not None:
            rate = share.rate_now()
            text = words.busy(quota.connections, site, source)
            return _Reason(text, PLACE, _SOON_SECONDS, rate)
        if code == "narrowed":
            text = words.narrowed(share.allowed, site, source)
            return _Reason(text, PLACE, _SOON_SECONDS, share.rate_now())
        if code == "slowed":
            rate = share.adaptive.per_second or 1.0
            return _Reason(words.learning(site, source), TURN, 1.0 / rate, rate)
        if code == "opening":
            per_minute = quota.connections_per_minute or 1
            text = words.opening(per_minute, site, source)
            return _Reason(text, TURN, 1.0, share.rate_now())
        if code == "asking":
            return _Reason(words.asking(site, source), PLACE, _SOON_SECONDS, share.rate_now())
        if code == "cold":
            return _Reason(f"{site}: the limits are being asked for.", TURN, 1.0, 20.0)
        target = words.lane_target(source, site)
        is_capped = share.cap is not None and meter.quota.per_day == share.cap
        if is_capped and meter.short == "day" and not meter.is_over(self._now()):
            assert share.cap is not None
            text, seconds = words.cap(share.cap, target, self._clock.now())
            return _Reason(text, "cap", seconds, share.cap / 86400 / meter.workers, MOST_SECONDS)
        return self._of_rate(meter, target, TURN)

    def _of_scope(self, code: str, meter: Meter) -> _Reason:
        hold = f"{meter.kind}-rate"
        if code == "connections" and meter.quota.connections is not None:
            text = words.busy_scope(meter.kind, meter.quota.connections)
            return _Reason(text, hold, _SOON_SECONDS, meter.quota.connections * 5.0)
        if code == "cold":
            return _Reason("The limits are being asked for.", hold, 1.0, 20.0)
        return self._of_rate(meter, words.scope_target(meter.kind), hold)

    def _of_rate(self, meter: Meter, target: str, hold: str) -> _Reason:
        quota, workers = meter.quota, max(1, meter.workers)
        if meter.is_over(self._now()):
            return _Reason("The limits are being asked for.", hold, 1.0, 20.0)
        for span, limit, seconds_in in (
            ("day", quota.per_day, 86400),
            ("hour", quota.per_hour, 3600),
        ):
            if meter.short == span and limit is not None:
                text, seconds = words.used_up(span, limit, target, self._clock.now())
                return _Reason(text, hold, seconds, limit / seconds_in / workers, MOST_SECONDS)
        rates = [r for r in (quota.per_second, (quota.per_minute or 0) / 60 or None) if r]
        rate = min(rates, default=20.0) / workers
        wait = max(0.05, meter.next_at - self._clock.monotonic())
        return _Reason(words.rate(quota, target), hold, min(wait, 60.0), rate)
