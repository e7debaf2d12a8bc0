"""Limits held inside one process; shared limits come from outside, by the same Protocol."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from esp.lib.clock import Clock
from sending.engine.ports import Lane, Outcome, Permit, Refusal


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """How much one lane may take.

    `wait_seconds` bounds how long a message waits for a connection before it goes back to the
    queue; `pause_seconds` is the rest that a lane takes when its receiver says "slow down".
    """

    connections: int = 5
    messages_per_connection: int = 50
    wait_seconds: float = 30.0
    pause_seconds: float = 2.0


@dataclass(slots=True)
class _LaneState:
    slots: asyncio.Semaphore
    users: int = 0
    paused_until: float = 0.0


class LocalThrottle:
    """Implements `ports.Throttle`: connections per lane, messages per connection, pauses."""

    def __init__(self, limits: LaneLimits, *, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._lanes: dict[Lane, _LaneState] = {}

    def __len__(self) -> int:
        return len(self._lanes)

    async def acquire(self, lane: Lane) -> Permit | Refusal:
        """Return a permit within `wait_seconds`, else the reason why the lane is full."""
        state = self._lanes.get(lane)
        if state is None:
            state = _LaneState(asyncio.Semaphore(self._limits.connections))
            self._lanes[lane] = state
        state.users += 1
        has_slot = False
        try:
            async with asyncio.timeout(self._limits.wait_seconds):
                await self._sit_out_pause(state)
                await state.slots.acquire()
                has_slot = True
        except TimeoutError:
            return self._refusal(state)
        finally:
            if not has_slot:
                self._leave(lane, state)
        return Permit(lane, self._limits.messages_per_connection)

    def release(self, permit: Permit) -> None:
        """Give a permit of `acquire` back; the next in line gets it."""
        state = self._lanes[permit.lane]
        state.slots.release()
        self._leave(permit.lane, state)

    def report(self, lane: Lane, outcome: Outcome) -> None:
        """Let the lane rest when its receiver complained of the rate."""
        state = self._lanes.get(lane)
        if state is not None and outcome.classification == "soft/throttled":
            state.paused_until = self._clock.monotonic() + self._limits.pause_seconds

    async def _sit_out_pause(self, state: _LaneState) -> None:
        while (left := state.paused_until - self._clock.monotonic()) > 0:
            await asyncio.sleep(left)

    def _refusal(self, state: _LaneState) -> Refusal:
        left = state.paused_until - self._clock.monotonic()
        if left > 0:
            return Refusal("The receiver asked us to slow down.", left)
        count = self._limits.connections
        return Refusal(f"All {count} connections to this receiver are busy.", 1.0)

    def _leave(self, lane: Lane, state: _LaneState) -> None:
        """Forget a lane that nobody uses, unless it must remember its pause."""
        state.users -= 1
        if state.users == 0 and state.paused_until <= self._clock.monotonic():
            del self._lanes[lane]
