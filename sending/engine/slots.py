"""The places of a slice: what each is busy with and since when, and which hang."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Generic, TypeVar

from sending.engine.ports import Deliver, Order

J = TypeVar("J")


class Slot(Generic[J]):
    """One place: its task, and the job that it serves now."""

    __slots__ = ("is_safe", "job", "name", "order", "returns", "since", "task")

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.job: J | None = None
        self.order: Order | None = None
        self.name = ""
        self.since = 0.0
        self.is_safe = False  # it was cut off before any of its content had left
        self.returns = False  # then it goes back untouched, it is no attempt

    def take(self, name: str, job: J, now: float) -> None:
        """Begin with a job for the destination `name`, at `now` by the monotonic clock."""
        self.name, self.job, self.since = name, job, now
        self.is_safe = self.returns = False

    def free(self) -> None:
        """Be done with the job."""
        self.job = self.order = None


class Slots(Generic[J]):
    """All places of a slice."""

    def __init__(self, count: int, deliverer: Deliver) -> None:
        self.all: Sequence[Slot[J]] = [Slot() for _ in range(count)]
        self._deliverer = deliverer

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The tasks of the places."""
        return [slot.task for slot in self.all if slot.task is not None]

    def busy(self) -> list[Slot[J]]:
        """The places that serve a job."""
        return [slot for slot in self.all if slot.job is not None]

    def since(self, moment: float) -> list[Slot[J]]:
        """The places that have been busy with one job since `moment` or longer."""
        return [slot for slot in self.busy() if slot.since <= moment]

    def closed(self, hanging: Sequence[Slot[J]]) -> set[str]:
        """Return the destinations where all that is under way is `hanging`."""
        lively = {slot.name for slot in self.busy() if slot not in hanging}
        return {slot.name for slot in hanging} - lively

    def is_leaving(self, slot: Slot[J]) -> bool:
        """Tell whether any of the content may have left: cutting that may double the message."""
        return slot.order is not None and self._deliverer.is_leaving(slot.order)

    def cut(self, slot: Slot[J], *, returns: bool = False) -> None:
        """Cancel what a place does; with `returns` its job is given back where nothing had left."""
        # Asked before: once the cancellation is under way nobody knows any more.
        slot.is_safe = not self.is_leaving(slot)
        slot.returns = returns
        if slot.task is not None:
            slot.task.cancel()
