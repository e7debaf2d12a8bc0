"""What new lanes have sent before, from the database: asked beside the loop, soon given up."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence

from esp.lib.clock import Clock
from sending.engine.ports import Lane
from sending.lanes.book import Book
from sending.lanes.meters import Meter
from sending.lanes.types import Used

log = logging.getLogger(__name__)

# Hour and day counts of lanes; awaited, never on the loop itself.
Seeds = Callable[[Sequence[Lane]], Awaitable[Mapping[Lane, Used]]]

_SEED_SECONDS = 1.0  # how long a new lane waits for the database
_SEED_AGAIN_SECONDS = 5.0
_MEMORY_SECONDS = 86400.0  # after that, what a lane bore says little of what it bears


class Seeder:
    """Seeds the counts of hours and days, so that emptied memories do not double a day's limit."""

    def __init__(
        self, book: Book, *, clock: Clock, seeds: Seeds | None, when_done: Callable[[], None]
    ) -> None:
        self._book = book
        self._clock = clock
        self._seeds = seeds
        self._when_done = when_done
        self._under_way: set[str] = set()
        self._again_at = -math.inf
        self._tasks: set[asyncio.Task[None]] = set()

    def without_new(self, due: list[Meter]) -> list[Meter]:
        """Return those of `due` that need no seed, or have it; begin to seed the others."""
        if self._clock.monotonic() >= self._again_at:
            self._start([m for m in due if m.needs_seed and m.key not in self._under_way])
        return [meter for meter in due if meter.key not in self._under_way]

    def close(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()

    def _start(self, meters: list[Meter]) -> None:
        """Ask the database of lanes that are new here; the others do not wait for it."""
        if not meters:
            return
        keys = {meter.key for meter in meters}
        self._under_way |= keys

        async def seed() -> None:
            try:
                async with asyncio.timeout(_SEED_SECONDS):
                    await self._seed(meters)
            except Exception as error:
                self._again_at = self._clock.monotonic() + _SEED_AGAIN_SECONDS
                log.warning("what lanes have sent could not be read: %r", error)
            finally:
                self._under_way -= keys
                self._when_done()

        task = asyncio.get_running_loop().create_task(seed())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _seed(self, meters: list[Meter]) -> None:
        """Ask the database what these lanes have sent; without an answer they start at nothing."""
        lanes = {m: self._book.by_key[m.key].lane for m in meters if m.key in self._book.by_key}
        found: Mapping[Lane, Used] = {}
        if self._seeds is not None and lanes:
            found = await self._seeds(list(lanes.values()))
        for meter in meters:
            used = found.get(lanes[meter]) if meter in lanes else None
            if used is None:
                meter.seeded = True
                continue
            wall = used.at.timestamp()
            if (
                self._clock.now().timestamp() - wall < _MEMORY_SECONDS
                and meter.key in self._book.by_key
            ):
                self._book.by_key[meter.key].restore(used.concurrency)
            meter.seed((int(wall // 3600), used.hour), (int(wall // 86400), used.day))
