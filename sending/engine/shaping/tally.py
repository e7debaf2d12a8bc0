"""Counts replies until a reaction is due: "five times within an hour"."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable

from sending.engine.shaping.limits import Reaction


class Tally:
    """Remembers when each rule fired for each name (a lane, a batch, a tenant); bounded in size."""

    def __init__(self, *, size: int = 20_000) -> None:
        self._size = size
        self._seen: OrderedDict[tuple[str, str, str, int], deque[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def due(self, name: str, reactions: Iterable[Reaction], *, now: float) -> tuple[Reaction, ...]:
        """Count one reply for `name` at `now` (seconds) and return the reactions that it makes due.

        A reaction that came due starts to count anew, so that it is not repeated with every reply.
        """
        return tuple(reaction for reaction in reactions if self._is_due(name, reaction, now))

    def _is_due(self, name: str, reaction: Reaction, now: float) -> bool:
        if reaction.times <= 1:
            return True
        key = (name, reaction.rule, reaction.kind, reaction.times)
        moments = self._seen.setdefault(key, deque(maxlen=reaction.times))
        self._seen.move_to_end(key)
        moments.append(now)
        while len(self._seen) > self._size:
            self._seen.popitem(last=False)
        if len(moments) < reaction.times or now - moments[0] > reaction.within_seconds:
            return False
        del self._seen[key]
        return True
