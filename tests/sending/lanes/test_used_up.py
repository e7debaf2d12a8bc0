"""A limit of an hour or a day that is used up is what is said, and only until it begins anew."""

from __future__ import annotations

import datetime as dt

import pytest

from esp.lib.clock import ManualClock
from sending.engine.ports import Demand, Lane, Refusal
from sending.engine.shaping.policy import load_shaping
from sending.lanes.grants import Grant
from sending.lanes.lane import LaneShare
from sending.lanes.refusals import Refuser
from sending.lanes.types import Quota

LANE = Lane("192.0.2.1", "mx.example.test")
NOON = dt.datetime(2026, 5, 6, 12, 0, tzinfo=dt.UTC)
DAY = int(NOON.timestamp() // 86400)
HOUR = int(NOON.timestamp() // 3600)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


def lane(clock: ManualClock, quota: Quota) -> LaneShare:
    """Return a lane that was told that the day's or hour's messages are gone, and rests since."""
    share = LaneShare(LANE, quota, is_known=True, clock=clock, idle_seconds=6.0)
    share.cap = quota.per_day
    grant = Grant(0.0, 0, 0, 0.0, 1, (HOUR, 5), (DAY, 5), 1)
    share.meter.apply(grant, clock.monotonic(), lease_seconds=1e6)
    return share


def refusal(clock: ManualClock, share: LaneShare) -> Refusal:
    code = share.block(clock.monotonic())
    demand = Demand(LANE, "tenant", "batch", "example.test")
    return Refuser(load_shaping(), clock).refusal(share, demand, code, share.meter, {})


def test_a_cap_that_is_reached_is_the_reason_and_not_the_want_of_connections(
    clock: ManualClock,
) -> None:
    found = refusal(clock, lane(clock, Quota(connections=10, per_day=5)))
    assert found.hold == "cap"
    assert found.retry_after_seconds > 11 * 3600


def test_so_is_the_limit_of_an_hour(clock: ManualClock) -> None:
    clock.advance(600)
    found = refusal(clock, lane(clock, Quota(connections=10, per_hour=5)))
    assert found.hold == "rate"
    assert found.retry_after_seconds > 49 * 60


def test_where_messages_are_left_all_connections_are_busy(clock: ManualClock) -> None:
    share = lane(clock, Quota(connections=10, per_day=50))
    assert refusal(clock, share).hold == "connections"


@pytest.mark.parametrize("quota", [Quota(connections=10, per_day=5),
                                   Quota(connections=10, per_hour=5)])  # fmt: skip
def test_after_midnight_nobody_waits_for_the_next(clock: ManualClock, quota: Quota) -> None:
    share = lane(clock, quota)
    clock.advance(12 * 3600 + 1)
    found = refusal(clock, share)
    assert found.retry_after_seconds < 30, found
