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

    def now(self) -> dt.datetime:
        return dt.datetime.now(tz=dt.UTC)

    def monotonic(self) -> float:
        return time.monotonic()


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
