"""The line before a full lane: batches take turns in it."""

from __future__ import annotations

import asyncio

from esp.lib.clock import SystemClock
from sending.engine.ports import Demand, Lane
from sending.lanes.lane import LaneShare, Waiter
from sending.lanes.types import Quota

LANE = Lane("192.0.2.1", "mx.example.test")


async def test_a_first_message_stands_behind_one_of_each_batch_only() -> None:
    share = LaneShare(
        LANE, Quota(connections=2), is_known=True, clock=SystemClock(), idle_seconds=6.0
    )
    loop = asyncio.get_running_loop()
    for batch in ("huge", "huge", "huge", "first", "other", "first", "huge"):
        demand = Demand(LANE, "tenant", batch, "example.test")
        share.line_up(Waiter(demand, loop.create_future()))
    found = [waiter.demand.batch for waiter in share.waiters]
    assert found == ["huge", "first", "other", "huge", "first", "huge", "huge"]
