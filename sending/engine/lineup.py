"""Claimed jobs in line for a slot: one per destination in turn, none above its share."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

J = TypeVar("J")


class Lineup(Generic[J]):
    """Knows which jobs wait and how many of each destination are under way.

    `share` is how many slots one destination may hold, `ahead` how many more of its jobs may wait.
    Every step takes constant time: it is taken for each message.
    """

    def __init__(self, *, share: int, ahead: int) -> None:
        self._share = share
        self._ahead = ahead
        self._waiting: dict[str, deque[J]] = {}
        self._busy: dict[str, int] = {}
        # Destinations that have a job waiting and a slot of their share free, each once.
        self._turns: deque[str] = deque()
        self._in_turn: set[str] = set()
        self._ready = 0

    @property
    def ready(self) -> int:
        """How many jobs wait for a slot, without those that wait for their destination's share."""
        return self._ready

    def add(self, name: str, job: J) -> None:
        """Put `job` for the destination `name` in line."""
        self._waiting.setdefault(name, deque()).append(job)
        if name in self._in_turn:
            self._ready += 1
        else:
            self._give_turn(name)

    def take(self) -> tuple[str, J] | None:
        """Return the next job with its destination, which is busy with it until `done`."""
        if self._turns:
            name = self._turns.popleft()
            self._in_turn.discard(name)
            jobs = self._waiting[name]
            self._ready -= len(jobs)
            job = jobs.popleft()
            if not jobs:
                del self._waiting[name]
            self._busy[name] = self._busy.get(name, 0) + 1
            self._give_turn(name)
            return name, job
        return None

    def done(self, name: str) -> None:
        """Note that a job of `take` is over."""
        left = self._busy[name] - 1
        if left:
            self._busy[name] = left
        else:
            del self._busy[name]
        self._give_turn(name)

    def full(self) -> set[str]:
        """Return the destinations that nothing more should be claimed for."""
        most = self._share + self._ahead
        return {
            name
            for name in self._busy.keys() | self._waiting.keys()
            if self._busy.get(name, 0) + len(self._waiting.get(name, ())) >= most
        }

    def drain(self) -> list[J]:
        """Take all that wait out of the line."""
        jobs = [job for waiting in self._waiting.values() for job in waiting]
        self._waiting.clear()
        self._turns.clear()
        self._in_turn.clear()
        self._ready = 0
        return jobs

    def _give_turn(self, name: str) -> None:
        if (
            name in self._waiting
            and name not in self._in_turn
            and self._busy.get(name, 0) < self._share
        ):
            self._turns.append(name)
            self._in_turn.add(name)
            self._ready += len(self._waiting[name])
