"""Sees the outcome of every way that was tried, also of those that a message moved on from."""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine
from typing import Any

from sending.engine.ports import Demand, Outcome, Permit, Refusal, Throttle
from sending.routes.services.results import result_of
from sending.routes.types import RouteResult

# More than a worker records in one go; beyond it the oldest are forgotten, which costs statistics.
_MOST = 20_000


class Witness:
    """Stands before the real throttle, which hears of each attempt, and keeps results by route.

    The engine's outcome of a message is that of its last way alone: a first route that is dead
    while the second takes everything would else never be seen to fail. Once a worker has used a
    route, direct delivery is counted as well, to compare it with.
    """

    def __init__(self, throttle: Throttle) -> None:
        self._throttle = throttle
        self._found: deque[RouteResult] = deque(maxlen=_MOST)
        self._knows_routes = False

    def acquire(
        self, demand: Demand, *, wait_seconds: float
    ) -> Coroutine[Any, Any, Permit | Refusal]:
        """Ask the real throttle."""
        return self._throttle.acquire(demand, wait_seconds=wait_seconds)

    def release(self, permit: Permit) -> None:
        """Give back to the real throttle."""
        self._throttle.release(permit)

    def report(self, permit: Permit, outcome: Outcome) -> None:
        """Tell the real throttle, and keep what it says of the route."""
        self._throttle.report(permit, outcome)
        self._knows_routes = self._knows_routes or bool(outcome.route)
        if self._knows_routes:
            result = result_of(outcome)
            if result is not None:
                self._found.append(result)

    def take(self) -> list[RouteResult]:
        """Return what was seen since the last time, for `note_results`."""
        found = []
        while self._found:
            found.append(self._found.popleft())
        return found
