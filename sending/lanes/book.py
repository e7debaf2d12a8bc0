"""The lanes and other limits that a worker knows, with what the database says of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from esp.lib.clock import Clock
from sending.engine.ports import Demand, Lane
from sending.engine.shaping.adaptive import Tuning
from sending.engine.shaping.policy import Shaping
from sending.lanes.lane import LaneShare
from sending.lanes.meters import Meter
from sending.lanes.types import SCOPES, CapFor, LaneCount, LimitCount, LimitsSnapshot, Quota

_FORGET_SECONDS = 120.0


class Book:
    """Opens lanes with their limits, keeps them up to date, forgets those that nobody uses."""

    def __init__(
        self,
        *,
        shaping: Shaping,
        clock: Clock,
        cap_for: CapFor,
        snapshot: LimitsSnapshot,
        idle_seconds: float,
        tuning: Tuning | None = None,
    ) -> None:
        self._take(snapshot)
        self.lanes: dict[Lane, LaneShare] = {}
        self.by_key: dict[str, LaneShare] = {}
        self._scopes: dict[tuple[str, str], Meter] = {}
        self._shaping = shaping
        self._clock = clock
        self._cap_for = cap_for
        self._idle_seconds = idle_seconds
        self._tuning = tuning
        self._day: dt.date = clock.now().date()
        self._left_over: list[LaneCount] = []
        self._left_over_limits: list[LimitCount] = []

    def __iter__(self) -> Iterator[LaneShare]:
        return iter(list(self.lanes.values()))

    def open(self, lane: Lane) -> LaneShare:
        """Return the part of a lane that is new here."""
        quota = self._quota_of(lane)
        is_known = lane.site in self._shaping.sites or lane.site.startswith("route:")
        share = LaneShare(
            lane,
            quota,
            is_known=is_known,
            clock=self._clock,
            idle_seconds=self._idle_seconds,
            tuning=self._tuning,
        )
        self.lanes[lane] = share
        self.by_key[share.key] = share
        self._set_limits(share)
        return share

    def meters_for(self, demand: Demand) -> tuple[Meter, ...]:
        """Return the meters of the other limits that someone has set for this message."""
        overrides = self.snapshot.overrides
        found: list[Meter] = []
        keys = ("", demand.tenant, demand.batch, demand.domain)
        for kind, key in zip(SCOPES, keys, strict=True):
            quota = overrides.get((kind, key))
            if quota is None:
                continue
            meter = self._scopes.get((kind, key))
            if meter is None:
                meter = Meter(kind, f"{kind}:{key}", quota)
                self._scopes[kind, key] = meter
                self._seed(meter, (kind, key))
            found.append(meter)
        return tuple(found)

    def change_limits(self, snapshot: LimitsSnapshot) -> list[Meter]:
        """Take what the database says now; returns the meters whose limit is gone."""
        self._take(snapshot)
        for share in self.lanes.values():
            self._set_limits(share)
        gone = []
        for kind, key in list(self._scopes):
            quota = snapshot.overrides.get((kind, key))
            if quota is None:
                gone.append(self._scopes.pop((kind, key)))
                continue
            meter = self._scopes[kind, key]
            meter.change(quota)
            if not meter.is_listed:  # else it hears from Valkey, and says what it knows itself
                self._seed(meter, (kind, key))
        return gone

    def _take(self, snapshot: LimitsSnapshot) -> None:
        self.snapshot = snapshot
        # Whether `meters_for` can find any: limits of sites and lanes stand in their own quotas.
        self.limits_others = any(kind in SCOPES for kind, _ in snapshot.overrides)

    def take_limit_counts(self) -> list[LimitCount]:
        """Return what left under limits since the last call, for `services.add_limit_counts`."""
        taken, self._left_over_limits = self._left_over_limits, []
        hour = self._clock.now().replace(minute=0, second=0, microsecond=0)
        for (kind, key), meter in self._scopes.items():
            spent = meter.take_spent()
            if spent and _is_counted(meter.quota):
                taken.append(LimitCount(kind, key, hour, spent))
        return taken

    def put_back_limit_counts(self, counts: list[LimitCount]) -> None:
        """Keep counts that the database did not take."""
        self._left_over_limits.extend(counts)

    def take_counts(self) -> list[LaneCount]:
        """Return what was counted by lane since the last call, for `services.add_counts`."""
        taken, self._left_over = self._left_over, []
        for share in self.lanes.values():
            taken.extend(share.take_counts())
        return taken

    def put_back_counts(self, counts: list[LaneCount]) -> None:
        """Keep counts that the database did not take."""
        self._left_over.extend(counts)

    def sweep(self, now: float) -> None:
        """Begin a new day's caps; forget lanes that have not been used for two minutes."""
        today = self._clock.now().date()
        is_new_day, self._day = today != self._day, today
        for lane, share in list(self.lanes.items()):
            if is_new_day or share.cap is not None:
                self._set_limits(share)
            meter = share.meter
            is_idle = not (meter.is_listed or meter.in_use or share.waiters)
            if is_idle and max(meter.used_at, meter.asked_at) < now - _FORGET_SECONDS:
                if share.is_in_trouble(now):
                    continue
                self._left_over.extend(share.take_counts())
                del self.lanes[lane]
                del self.by_key[share.key]

    def _seed(self, meter: Meter, name: tuple[str, str]) -> None:
        """Tell a meter what the database has counted, so that a lost memory frees no day's limit.

        The snapshot has it already, so that nobody waits for it.
        """
        meter.seeded = True
        used = self.snapshot.used.get(name)
        if used is not None:
            wall = used.at.timestamp()
            meter.seed((int(wall // 3600), used.hour), (int(wall // 86400), used.day))

    def _quota_of(self, lane: Lane) -> Quota:
        quota = Quota.of(self._shaping.limits_for(lane.site))
        overrides = self.snapshot.overrides
        if overrides:
            for key in (("site", lane.site), ("lane", f"{lane.source_id}|{lane.site}")):
                own = overrides.get(key)
                if own is not None:
                    quota = own.over(quota)
        return quota

    def _set_limits(self, share: LaneShare) -> None:
        lane = share.lane
        share.change(self._quota_of(lane), self._cap_for(lane.source_id, lane.site, self._day))
        share.close(
            self.snapshot.closed.get(lane), now=self._clock.monotonic(), wall=self._clock.now()
        )


def _is_counted(quota: Quota) -> bool:
    return quota.per_hour is not None or quota.per_day is not None
