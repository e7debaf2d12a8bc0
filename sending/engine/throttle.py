"""Limits held inside one process; shared limits come from outside, by the same Protocol."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from esp.lib.clock import Clock
from sending.engine.ports import Demand, Lane, Outcome, Permit, Refusal


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """How much one lane may take.

    `pause_seconds` is the rest that a lane takes when its receiver says "slow down".
    """

    connections: int = 5
    messages_per_connection: int = 50
    pause_seconds: float = 2.0


@dataclass(slots=True)
class _LaneState:
    slots: asyncio.Semaphore
    users: int = 0
    paused_until: float = 0.0


class LocalThrottle:
    """Implements `ports.Throttle`: connections per lane, messages per connection, pauses.

    A message in flight is a connection in use, so permits count both.
    """

    def __init__(self, limits: LaneLimits, *, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._lanes: dict[Lane, _LaneState] = {}

    def __len__(self) -> int:
        return len(self._lanes)

    async def acquire(self, demand: Demand, *, wait_seconds: float) -> Permit | Refusal:
        """Return a permit within `wait_seconds`, else the reason why the lane is full."""
        lane = demand.lane
        state = self._lanes.get(lane)
        if state is None:
            state = _LaneState(asyncio.Semaphore(self._limits.connections))
            self._lanes[lane] = state
        is_free = not state.slots.locked() and self._pause_left(state) <= 0
        if not is_free and wait_seconds <= 0:
            return self._refusal(state)
        state.users += 1
        if is_free or await self._waited(lane, state, wait_seconds):
            if is_free:
                await state.slots.acquire()  # does not suspend: a slot is free
            return Permit(demand, self._limits.messages_per_connection)
        return self._refusal(state)

    async def _waited(self, lane: Lane, state: _LaneState, seconds: float) -> bool:
        """Wait for pause and slot; returns whether there is one, else the lane is left."""
        has_slot = False
        try:
            async with asyncio.timeout(seconds):
                while (left := self._pause_left(state)) > 0:
                    await asyncio.sleep(left)
                await state.slots.acquire()
                has_slot = True
        except TimeoutError:
            return False
        finally:
            if not has_slot:
                self._leave(lane, state)
        return True

    def release(self, permit: Permit) -> None:
        """Give a permit of `acquire` back; the next in line gets it."""
        state = self._lanes[permit.lane]
        state.slots.release()
        self._leave(permit.lane, state)

    def report(self, permit: Permit, outcome: Outcome) -> None:
        """Let the lane rest when its receiver complained of the rate."""
        if outcome.classification == "soft/throttled":
            state = self._lanes[permit.lane]
            state.paused_until = self._clock.monotonic() + self._limits.pause_seconds

    def _pause_left(self, state: _LaneState) -> float:
        return state.paused_until - self._clock.monotonic() if state.paused_until else 0.0

    def _refusal(self, state: _LaneState) -> Refusal:
        left = self._pause_left(state)
        if left > 0:
            return Refusal("The receiver asked us to slow down.", left, "rate")
        count = self._limits.connections
        return Refusal(f"All {count} connections to this receiver are busy.", 1.0, "connections")

    def _leave(self, lane: Lane, state: _LaneState) -> None:
        """Forget a lane that nobody uses, unless it must remember its pause."""
        state.users -= 1
        if state.users == 0 and self._pause_left(state) <= 0:
            self._lanes.pop(lane, None)
