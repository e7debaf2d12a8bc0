"""Time as a value that is passed in, so that tests and the simulator can hold it in their hands."""

from __future__ import annotations

import datetime as dt
import time
from typing import Protocol


class Clock(Protocol):
    """Two readings of time: one for records, one for measuring."""

    def now(self) -> dt.datetime:
        """Return the moment, aware, in UTC."""

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start; never jumps when the wall clock is set."""


class SystemClock:
    """The machine's own clocks."""

    # Asked some twenty times for each message that is delivered: without a call of ours between.
    monotonic = staticmethod(time.monotonic)

    def now(self) -> dt.datetime:
        return dt.datetime.now(tz=dt.UTC)


class AnchoredClock(SystemClock):
    """Tells the time of whoever it was anchored to, whatever the machine's wall clock does.

    Between two anchorings it goes by the monotonic clock, so that a wall clock that is wrong or
    jumps neither ends leases early nor stretches them. Before the first one it is the system's.
    """

    def __init__(self) -> None:
        self._anchor: tuple[dt.datetime, float] | None = None

    def anchor(self, now: dt.datetime) -> None:
        """Take `now` (aware) for the present moment."""
        if now.tzinfo is None:
            raise ValueError("a clock is anchored to an aware moment")
        self._anchor = (now.astimezone(dt.UTC), self.monotonic())

    def now(self) -> dt.datetime:
        if self._anchor is None:
            return super().now()
        moment, since = self._anchor
        return moment + dt.timedelta(seconds=self.monotonic() - since)


class ManualClock:
    """A clock that stands still until it is told to move; both readings move together."""

    def __init__(self, start: dt.datetime) -> None:
        if start.tzinfo is None:
            raise ValueError("a clock starts at an aware moment")
        self._now = start.astimezone(dt.UTC)
        self._monotonic = 0.0

    def now(self) -> dt.datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move both readings forward by `seconds`; time never runs backward here."""
        if seconds < 0:
            raise ValueError("a clock moves forward only")
        self._now += dt.timedelta(seconds=seconds)
        self._monotonic += seconds
