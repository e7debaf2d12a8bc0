"""What a worker knows of the room in its lanes, and how it asks for connections."""

from __future__ import annotations

from esp.lib.clock import SystemClock
from sending.engine.ports import Lane
from sending.lanes.grants import Grant
from sending.lanes.lane import LaneShare
from sending.lanes.meters import Meter
from sending.lanes.types import Quota

LANE = Lane("192.0.2.1", "mx.example.test")


def share_of(connections: int | None, *, now: float, openings: int | None = None) -> LaneShare:
    """Return a lane of which this worker has so many connections."""
    quota = Quota(connections=10, connections_per_minute=None if openings is None else 60)
    share = LaneShare(LANE, quota, is_known=True, clock=SystemClock(), idle_seconds=6.0)
    share.meter.ask(now, most=None)
    grant = Grant(0.0, connections, None, 0.0, openings, (0, 0), (0, 0), 2)
    share.meter.apply(grant, now, lease_seconds=10.0)
    return share


def test_a_lane_has_the_places_that_are_granted_and_not_in_use() -> None:
    share = share_of(4, now=100.0)
    assert share.places(100.0) == 4
    share.take(100.0)
    assert share.places(100.0) == 3
    share.allowed = 2  # complaints have taught
    assert share.places(100.0) == 1
    share.shut_until = 110.0
    assert share.places(100.0) == 0


def test_a_lane_that_was_left_to_the_others_is_worth_a_question_now_and_then() -> None:
    share = share_of(0, now=100.0)
    assert share.places(100.0) == 1
    share.meter.refused_at = 100.0
    assert share.places(100.5) == 0
    assert share.places(101.0) == 1


def test_more_openings_are_asked_for_when_the_limit_has_not_said_no() -> None:
    share = share_of(4, now=100.0, openings=0)
    share.meter.ask(100.1, most=None)
    assert share.block(100.1) == "asking"
    share.meter.refused = 1
    share.meter.ask(100.6, most=None)
    grant = Grant(0.0, 4, None, 0.0, 0, (0, 0), (0, 0), 2)
    share.meter.apply(grant, 100.6, lease_seconds=10.0)
    assert share.block(100.6) == "opening"


def test_connections_that_were_opened_unforeseen_are_asked_for_as_well() -> None:
    meter = Meter("lane", "lane:x", Quota(connections=10, connections_per_minute=6000))
    meter.apply(Grant(0.0, 5, None, 0.0, 1, (0, 0), (0, 0), 1), 100.0, lease_seconds=10.0)
    for _ in range(8):
        meter.open_one()
    meter.used = 8
    ask = meter.ask(100.5, most=None)
    assert ask.openings == ask.want + 7
    meter.apply(Grant(0.0, 5, None, 0.0, ask.openings, (0, 0), (0, 0), 1), 100.5, lease_seconds=10)
    assert meter.openings == ask.want
