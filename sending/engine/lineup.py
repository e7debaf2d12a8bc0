"""Claimed jobs in line for a slot: one per destination in turn, none above its share.

At one destination the parties (campaigns, in practice) take turns as well, so that a first message
does not stand behind all that was claimed of a campaign before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

J = TypeVar("J")


class _Line(Generic[J]):
    """What waits for one destination: its parties in turn."""

    __slots__ = ("_by_party", "_turns", "length")

    def __init__(self) -> None:
        self._by_party: dict[str, deque[J]] = {}
        self._turns: deque[str] = deque()  # each party that has a job waiting, once
        self.length = 0

    def add(self, party: str, job: J) -> None:
        jobs = self._by_party.get(party)
        if jobs is None:
            jobs = self._by_party[party] = deque()
            self._turns.append(party)
        jobs.append(job)
        self.length += 1

    def take(self) -> J:
        party = self._turns.popleft()
        jobs = self._by_party[party]
        job = jobs.popleft()
        if jobs:
            self._turns.append(party)
        else:
            del self._by_party[party]
        self.length -= 1
        return job

    def parties(self) -> list[str]:
        return list(self._by_party)

    def jobs(self) -> list[J]:
        return [job for jobs in self._by_party.values() for job in jobs]


class Lineup(Generic[J]):
    """Knows which jobs wait and how many of each destination are under way.

    `share` is how many slots one destination may hold, `ahead` how many more of its jobs may wait.
    Every step takes constant time: it is taken for each message.
    """

    def __init__(self, *, share: int, ahead: int) -> None:
        self._share = share
        self._ahead = ahead
        self._waiting: dict[str, _Line[J]] = {}
        self._busy: dict[str, int] = {}
        # Destinations that have a job waiting and a slot of their share free, each once.
        self._turns: deque[str] = deque()
        self._in_turn: set[str] = set()
        self._ready = 0

    @property
    def ready(self) -> int:
        """How many jobs wait for a slot, without those that wait for their destination's share."""
        return self._ready

    def add(self, name: str, job: J, party: str = "") -> None:
        """Put `job` of `party` ("": nobody's) for the destination `name` in line."""
        line = self._waiting.get(name)
        if line is None:
            line = self._waiting[name] = _Line()
        line.add(party, job)
        if name in self._in_turn:
            self._ready += 1
        else:
            self._give_turn(name)

    def take(self) -> tuple[str, J] | None:
        """Return the next job with its destination, which is busy with it until `done`."""
        if self._turns:
            name = self._turns.popleft()
            self._in_turn.discard(name)
            line = self._waiting[name]
            self._ready -= line.length
            job = line.take()
            if not line.length:
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

    def full(self) -> tuple[set[str], set[tuple[str, str]]]:
        """Return for what nothing more should be claimed: destinations, and (party, destination).

        A destination that has enough still takes in parties that have nothing waiting there, until
        it has three times as much.
        """
        most = self._share + self._ahead
        names: set[str] = set()
        pairs: set[tuple[str, str]] = set()
        for name in self._busy.keys() | self._waiting.keys():
            line = self._waiting.get(name)
            count = self._busy.get(name, 0) + (line.length if line is not None else 0)
            if count < most:
                continue
            parties = line.parties() if line is not None else []
            if count < 3 * most and all(parties):
                pairs.update((party, name) for party in parties)
            else:
                names.add(name)
        return names, pairs

    def withdraw(self, names: Iterable[str]) -> list[J]:
        """Take what waits for these destinations out of the line."""
        jobs: list[J] = []
        for name in names:
            line = self._waiting.pop(name, None)
            if line is None:
                continue
            jobs += line.jobs()
            if name in self._in_turn:
                self._in_turn.discard(name)
                self._turns.remove(name)
                self._ready -= line.length
        return jobs

    def drain(self) -> list[J]:
        """Take all that wait out of the line."""
        jobs = [job for line in self._waiting.values() for job in line.jobs()]
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
            self._ready += self._waiting[name].length
