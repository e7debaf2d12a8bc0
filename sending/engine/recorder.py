"""Making results durable in batches, while the deliveries go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sending.engine.ports import Outcome

J = TypeVar("J")

_BATCHES_BEHIND = 5


@dataclass(slots=True)
class Result(Generic[J]):
    """What came of one job."""

    job: J
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class RecordSettings:
    """A batch is written when it has `size` results or its first is `seconds` old.

    A failed write is tried again after each of `retry_seconds`; then, at the end of the slice, once
    more after each of them.
    """

    size: int = 200
    seconds: float = 0.5
    retry_seconds: tuple[float, ...] = (0.1, 0.5, 2.0)


class RecordFailed(Exception):
    """Results could not be made durable; `count` says how many, the cause says why."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} results could not be recorded; their leases will run out")
        self.count = count


class Recorder(Generic[J]):
    """Takes results one by one and writes them in order, one batch at a time."""

    def __init__(
        self, write: Callable[[Sequence[Result[J]]], Awaitable[None]], settings: RecordSettings
    ) -> None:
        self._write = write
        self._settings = settings
        self._pending: list[Result[J]] = []
        self._has_some = asyncio.Event()
        self._is_due = asyncio.Event()
        self._is_ending = False
        self._error: Exception | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def is_failing(self) -> bool:
        """Whether a batch could not be written, all retries included."""
        return self._error is not None

    @property
    def is_behind(self) -> bool:
        """Whether results come faster than they can be written.

        Then nothing more should be claimed: memory would grow, and what a crash sends twice.
        """
        return len(self._pending) >= _BATCHES_BEHIND * self._settings.size

    def start(self) -> None:
        """Begin to write in the background."""
        self._task = asyncio.create_task(self._run())

    def add(self, result: Result[J]) -> None:
        """Take one result; it will be in exactly one successful write."""
        self._pending.append(result)
        count = len(self._pending)
        if count == 1:
            self._has_some.set()
        if count >= self._settings.size:
            self._is_due.set()

    async def finish(self) -> None:
        """Write what is left; raises RecordFailed when that is not possible."""
        self._is_ending = True
        self._has_some.set()
        self._is_due.set()
        if self._task is not None:
            await self._task
        self._error = None
        while self._pending and self._error is None:
            await self._write_batch()
        if self._error is not None:
            raise RecordFailed(len(self._pending)) from self._error

    async def _run(self) -> None:
        while not self._is_ending and self._error is None:
            await self._has_some.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.seconds):
                    await self._is_due.wait()
            await self._write_batch()
            if not self._is_ending:
                if len(self._pending) < self._settings.size:
                    self._is_due.clear()
                if not self._pending:
                    self._has_some.clear()

    async def _write_batch(self) -> None:
        """Write the oldest results; they stay pending until the write has returned."""
        batch = self._pending[: self._settings.size]
        if not batch:
            return
        error: Exception | None = None
        for pause in (0.0, *self._settings.retry_seconds):
            await asyncio.sleep(pause)
            try:
                await self._write(batch)
            except Exception as failure:  # any failure to write is one to try again
                error = failure
            else:
                del self._pending[: len(batch)]
                return
        self._error = error
