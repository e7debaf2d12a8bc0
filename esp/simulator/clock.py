"""The simulator's clock: it can run faster than the wall's and can be put forward."""

from __future__ import annotations

import asyncio
import time


class Clock:
    """Time in Unix seconds. Delays that are already running keep the speed they began with."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._base = time.time()
        self.speed = 1.0

    def now(self) -> float:
        return self._base + (time.monotonic() - self._started) * self.speed

    def advance(self, seconds: float) -> None:
        """Put the clock forward: greylisting and rate windows see the time as passed."""
        self._base += seconds

    def run_at(self, speed: float) -> None:
        """Let simulated time run `speed` times as fast as the wall's from now on."""
        if speed <= 0:
            raise ValueError("The speed of the clock must be above 0.")
        self._base, self._started = self.now(), time.monotonic()
        self.speed = speed

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds` of simulated time."""
        if seconds > 0:
            await asyncio.sleep(seconds / self.speed)
