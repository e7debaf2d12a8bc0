"""What was granted of an hour and not sent is there for the next message, whoever sends it."""

from __future__ import annotations

import redis

from esp.lib.clock import SystemClock
from esp.stack.valkey import ValkeyServer
from sending.engine.ports import Demand, Lane, Permit
from sending.engine.shaping.policy import load_shaping
from sending.lanes.grants import Grant, GrantStore, meter_key
from sending.lanes.meters import Meter
from sending.lanes.throttle import SharedThrottle
from sending.lanes.types import Quota
from tests.sending.lanes.conftest import Crew
from tests.sending.lanes.one_worker import shaping_text

LIMITS = {"connections": 10, "messages_per_connection": 100, "per_hour": 300}
LANE = Lane("192.0.2.1", "route:x")


def granted(messages: int) -> Meter:
    """Return a meter of a limited hour that was granted so much at the moment 100."""
    meter = Meter("lane", "lane:x", Quota(connections=10, per_hour=300))
    grant = Grant(0.0, 5, messages, 0.0, None, (7, messages), (0, 0), 1, stamp="a")
    meter.apply(grant, 100.0, lease_seconds=10.0)
    return meter


def test_what_is_left_in_time_goes_back_to_rate_and_hour() -> None:
    meter = granted(50)
    meter.take(100.1)
    ask = meter.ask(100.5, most=None)
    assert (ask.unspent, ask.expired) == (49, 0)


def test_what_is_left_too_late_goes_back_to_the_hour_alone_and_is_not_spent() -> None:
    meter = granted(50)
    meter.take(100.1)
    ask = meter.ask(103.0, most=None)
    assert (ask.unspent, ask.expired) == (0, 49)
    assert meter.block(103.0) == "rate"
    assert meter.ask(103.5, most=None).expired == 0  # once


def test_a_worker_that_rests_wants_nothing_and_gives_all() -> None:
    meter = granted(50)
    meter.take(100.1)
    meter.give_back()
    ask = meter.give_all(100.5)
    assert (ask.unspent, ask.messages, ask.want, ask.openings) == (49, 0, 0, 0)


def test_an_hour_is_not_used_up_by_messages_that_another_limit_kept_back(crew: Crew) -> None:
    crew.start(
        "a", 12, limits=LIMITS, hold=0.002, senders=4, site="route:x",
        overrides=[
            ("domain", "example.test", {"per_hour": 20}),
            ("tenant", "t", {"per_second": 0.4}),
        ],
    )  # fmt: skip
    sent = crew.wait()
    assert 3 <= len(sent.spans) <= 6
    assert not [reason for reason in sent.reasons if "The hour's limit" in reason]


async def test_after_a_slice_the_hour_counts_what_was_sent(valkey: ValkeyServer) -> None:
    throttle = SharedThrottle(
        GrantStore(valkey.url, worker="a", settle_seconds=0.0),
        shaping=load_shaping(shaping_text(LIMITS)),
        worker="a",
        clock=SystemClock(),
        expected_workers=1,
    )
    for _ in range(3):
        permit = await throttle.acquire(Demand(LANE, "t", "b", "x.test"), wait_seconds=3.0)
        assert isinstance(permit, Permit)
        throttle.release(permit)
    await throttle.rest()
    await throttle.close()
    client = redis.Redis.from_url(valkey.url)
    assert float(client.hget(meter_key(f"lane:{LANE.source_id}|{LANE.site}"), "hn")) == 3.0
