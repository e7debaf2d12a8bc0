"""What workers of a lane learn, they learn together: the window, and rules of several replies."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
import redis

from esp.lib.clock import SystemClock
from esp.stack.valkey import ValkeyServer
from sending.engine.ports import Demand, Lane, Outcome, Refusal
from sending.engine.shaping.adaptive import Tuning
from sending.engine.shaping.policy import load_shaping
from sending.lanes.grants import GrantStore
from sending.lanes.throttle import SharedThrottle
from sending.lanes.types import Used

LANE = Lane("192.0.2.1", "mx.example.test")
DEMAND = Demand(LANE, "tenant-1", "batch-1", "example.test")
SHAPING = """
[default]
connections = 20
messages_per_connection = 100
source = "a test"

[[rule]]
id = "too-much-of-this"
title = "The provider sees too much of one campaign"
sites = ["*"]
text = ['too much of this']
reaction = "hold_batch"
seconds = 3600
times = 5
within_seconds = 60
source = "a test"
examples = ["451 4.1.1 too much of this"]
"""

Seeds = Callable[[Sequence[Lane]], Awaitable[Mapping[Lane, Used]]]


def bore(connections: float, age: dt.timedelta = dt.timedelta(0)) -> Seeds:
    """Answer as a database in which the lane stands with what it bore."""

    async def seeds(lanes: Sequence[Lane]) -> Mapping[Lane, Used]:
        return {lane: Used(dt.datetime.now(dt.UTC) - age, 0, 0, connections) for lane in lanes}

    return seeds


async def worker(
    stack: AsyncExitStack, valkey: ValkeyServer, name: str, **options: Any
) -> SharedThrottle:
    store = GrantStore(valkey.url, worker=name, timeout_seconds=0.3, settle_seconds=0.2)
    throttle = SharedThrottle(
        store, shaping=load_shaping(SHAPING), worker=name, expected_workers=1, **options
    )
    stack.push_async_callback(throttle.close)
    return throttle


def reply(text: str, code: int = 451, enhanced: str = "4.1.1") -> Outcome:
    return Outcome(
        "deferred", "rcpt", "soft/other", text, dt.datetime.now(dt.UTC),
        smtp_code=code, enhanced_code=enhanced,
    )  # fmt: skip


async def sends(throttle: SharedThrottle, outcome: Outcome | None = None) -> None:
    """Let one message through, with `outcome` or a clean one."""
    permit = await throttle.acquire(DEMAND, wait_seconds=5.0)
    assert not isinstance(permit, Refusal), permit.reason
    clean = Outcome("delivered", "body", "none/delivered", "250", dt.datetime.now(dt.UTC), 250)
    throttle.report(permit, outcome or clean)
    throttle.release(permit)


def window(throttle: SharedThrottle) -> int:
    return throttle._book.lanes[LANE].allowed


def test_a_lane_goes_on_with_the_window_that_it_had_before_a_restart(valkey: ValkeyServer) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            first = await worker(stack, valkey, "a", seeds=bore(12))
            await sends(first)
            assert window(first) == 12
            # Who comes later hears it from the others, whatever the database says.
            second = await worker(stack, valkey, "b", seeds=bore(3))
            await sends(second)
            assert window(second) == 12

    asyncio.run(scene())


def test_what_was_learned_long_ago_is_learned_anew(valkey: ValkeyServer) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            throttle = await worker(stack, valkey, "a", seeds=bore(12, dt.timedelta(days=3)))
            await sends(throttle)
            assert window(throttle) == 2

    asyncio.run(scene())


def test_a_database_that_hangs_does_not_hold_a_new_lane(valkey: ValkeyServer) -> None:
    async def never(lanes: Sequence[Lane]) -> Mapping[Lane, Used]:
        await asyncio.sleep(60)
        return {}

    async def scene() -> None:
        async with AsyncExitStack() as stack:
            throttle = await worker(stack, valkey, "a", seeds=never)
            await asyncio.wait_for(sends(throttle), 4.0)

    asyncio.run(scene())


def test_a_complaint_to_one_worker_shrinks_the_window_of_all(valkey: ValkeyServer) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            workers = [await worker(stack, valkey, name, seeds=bore(16)) for name in "ab"]
            for one in workers:
                await sends(one)
            await asyncio.sleep(0.6)
            complaint = reply("421 4.7.0 too many", 421, "4.7.0")
            await sends(workers[0], complaint)
            await sends(workers[0], complaint)  # of the same burst: no second cut
            for _ in range(10):
                await sends(workers[1])
                await asyncio.sleep(0.1)
            assert [window(one) for one in workers] == [8, 8]
            # Both want more than there is: the window is divided among them.
            crowd = [one.acquire(DEMAND, wait_seconds=2.0) for one in workers for _ in range(10)]
            waiting = asyncio.gather(*crowd)
            await asyncio.sleep(1.2)
            assert [one._book.lanes[LANE].meter.share for one in workers] == [4, 4]
            await waiting

    asyncio.run(scene())


def ceilings(*throttles: SharedThrottle) -> list[float | None]:
    return [one._book.lanes[LANE].adaptive.ceiling for one in throttles]


async def busy(throttle: SharedThrottle, pause: float, seconds: float) -> None:
    """Send for some time, one message each `pause`, without waiting for room."""
    ends = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < ends:
        permit = await throttle.acquire(DEMAND, wait_seconds=0.0)
        if not isinstance(permit, Refusal):
            clean = Outcome("delivered", "body", "none/delivered", "250", SystemClock().now(), 250)
            throttle.report(permit, clean)
            throttle.release(permit)
        await asyncio.sleep(pause)


async def slowed(
    stack: AsyncExitStack, valkey: ValkeyServer, **tuning: float
) -> list[SharedThrottle]:
    """Return a worker that has met a complaint while it sent much, and one that sent little."""
    options = {"seeds": bore(16), "tuning": Tuning(**tuning)}  # type: ignore[arg-type]
    much, little = [await worker(stack, valkey, name, **options) for name in "ab"]
    await asyncio.gather(busy(much, 0.01, 2.0), busy(little, 0.2, 2.0))
    await sends(much, reply("421 4.7.0 too many", 421, "4.7.0"))
    await asyncio.gather(busy(much, 0.05, 1.2), busy(little, 0.05, 1.2))
    return [much, little]


def test_the_rate_that_a_complaint_leaves_is_the_lanes(valkey: ValkeyServer) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            workers = await slowed(stack, valkey)
            first, second = ceilings(*workers)
            assert first is not None
            assert first == second  # in equal parts, whoever sent how much and met the complaint
            # Who comes later keeps to it as well, and takes his part from the others.
            workers.append(await worker(stack, valkey, "c", seeds=bore(16)))
            await asyncio.gather(*(busy(one, 0.05, 1.5) for one in workers))
            assert ceilings(*workers) == [pytest.approx(2 * first / 3)] * 3
            redis.Redis.from_url(valkey.url).flushall()
            await asyncio.gather(*(busy(one, 0.05, 2.5) for one in workers))
            # A part that is told too late on a busy machine is missing: less, never more.
            found = ceilings(*workers)
            assert found[0] is not None
            assert found == [found[0]] * 3
            assert 0.3 * first < found[0] < 0.7 * first

    asyncio.run(scene())


def test_a_lane_that_stays_clean_is_rid_of_its_ceiling(valkey: ValkeyServer) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            workers = await slowed(stack, valkey, rate_step_seconds=1.5, rate_steps=2)
            assert None not in ceilings(*workers)
            ends = asyncio.get_running_loop().time() + 20
            while ceilings(*workers) != [None, None]:
                assert asyncio.get_running_loop().time() < ends
                await asyncio.gather(*(busy(one, 0.05, 0.5) for one in workers))

    asyncio.run(scene())


def test_a_rule_of_five_replies_counts_those_of_all_workers(valkey: ValkeyServer) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            workers = [await worker(stack, valkey, name) for name in "ab"]
            for number in range(4):
                await sends(workers[number % 2], reply("too much of this"))
            await asyncio.sleep(0.5)
            assert [one.take_actions() for one in workers] == [[], []]
            await sends(workers[1], reply("too much of this"))
            await asyncio.sleep(0.5)
            (found,) = [action for one in workers for action in one.take_actions()]
            assert (found.action, found.rule, found.batch) == (
                "hold_batch", "too-much-of-this", "batch-1",
            )  # fmt: skip

    asyncio.run(scene())


@pytest.mark.parametrize("replies", [4, 5])
def test_without_valkey_each_worker_counts_for_itself(valkey: ValkeyServer, replies: int) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            throttle = await worker(stack, valkey, "a")
            await sends(throttle)
            assert valkey.pid is not None
            os.kill(valkey.pid, signal.SIGKILL)
            for _ in range(replies):
                await sends(throttle, reply("too much of this"))
            await asyncio.sleep(1.0)
            assert len(throttle.take_actions()) == (1 if replies == 5 else 0)

    asyncio.run(scene())
    valkey.stop()
