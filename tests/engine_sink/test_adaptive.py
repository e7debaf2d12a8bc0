"""Adaptive concurrency: gentle with strangers, quick to yield, patient to recover."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esp.lib.clock import ManualClock
from sending.engine.ports import Kind, Outcome, Phase
from sending.engine.shaping.adaptive import AdaptiveConcurrency, Learned, is_complaint
from sending.engine.shaping.limits import Limits, Reaction

START = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
LIMITS = Limits(connections=10, messages_per_connection=100)


def outcome(
    kind: Kind = "delivered",
    code: int | None = 250,
    enhanced: str | None = None,
    name: str = "none/delivered",
    phase: Phase = "body",
) -> Outcome:
    return Outcome(kind, phase, name, "", START, smtp_code=code, enhanced_code=enhanced)


CLEAN = outcome()
SLOW_DOWN = outcome("deferred", 421, "4.7.0", "soft/throttled", "mail")
NO_ANSWER = outcome("deferred", None, None, "soft/network-error", "connect")


def lane(
    limits: Limits = LIMITS, *, is_known: bool = False
) -> tuple[AdaptiveConcurrency, ManualClock]:
    clock = ManualClock(START)
    return AdaptiveConcurrency(limits, clock=clock, is_known=is_known), clock


def feed(adaptive: AdaptiveConcurrency, clock: ManualClock, count: int, every: float = 0.1) -> None:
    for _ in range(count):
        clock.advance(every)
        adaptive.observe(CLEAN)


def test_it_meets_an_unknown_provider_with_two_connections() -> None:
    adaptive, _ = lane()
    assert adaptive.connections == 2
    assert adaptive.per_second is None


def test_it_trusts_the_limits_of_a_known_provider_at_once() -> None:
    adaptive, _ = lane(is_known=True)
    assert adaptive.connections == 10


def test_a_limit_of_one_connection_is_held_from_the_start() -> None:
    adaptive, clock = lane(Limits(1, 10))
    assert adaptive.connections == 1
    feed(adaptive, clock, 500)
    assert adaptive.connections == 1


def test_it_opens_one_more_connection_at_a_time_while_all_is_clean() -> None:
    adaptive, clock = lane()
    seen = [adaptive.connections]
    for _ in range(1000):
        feed(adaptive, clock, 1)
        if adaptive.connections != seen[-1]:
            seen.append(adaptive.connections)
    assert seen == list(range(2, 11))


def test_a_single_second_of_clean_replies_opens_no_flood() -> None:
    adaptive, clock = lane()
    feed(adaptive, clock, 10_000, every=0.0001)
    assert adaptive.connections <= 3


def test_a_complaint_halves_the_connections_and_the_rate() -> None:
    adaptive, clock = lane(is_known=True)
    feed(adaptive, clock, 600, every=0.05)
    adaptive.observe(SLOW_DOWN)
    assert adaptive.connections == 5
    assert adaptive.per_second == pytest.approx(10, rel=0.1)  # 20 a second went before


def test_a_burst_of_complaints_counts_once() -> None:
    adaptive, clock = lane(is_known=True)
    feed(adaptive, clock, 100)
    for _ in range(10):
        clock.advance(0.1)
        adaptive.observe(SLOW_DOWN)
    assert adaptive.connections == 5


def test_complaints_that_go_on_bring_it_down_to_one_connection() -> None:
    adaptive, clock = lane(is_known=True)
    feed(adaptive, clock, 100)
    for _ in range(10):
        clock.advance(30)
        adaptive.observe(SLOW_DOWN)
    assert adaptive.connections == 1
    assert adaptive.per_second is not None
    assert adaptive.per_second > 0


def test_it_recovers_fully_after_a_clean_while() -> None:
    adaptive, clock = lane(is_known=True)
    feed(adaptive, clock, 100)
    adaptive.observe(SLOW_DOWN)
    feed(adaptive, clock, 600, every=1.0)
    assert adaptive.connections == 10
    assert adaptive.per_second is None


def test_the_rate_never_passes_the_limit() -> None:
    adaptive, clock = lane(Limits(10, 100, per_minute=120), is_known=True)
    assert adaptive.per_second == 2.0
    feed(adaptive, clock, 100)
    adaptive.observe(SLOW_DOWN)
    assert adaptive.per_second is not None
    assert adaptive.per_second <= 2.0


def test_connections_that_fail_in_a_row_are_a_complaint() -> None:
    adaptive, clock = lane(is_known=True)
    for _ in range(2):
        adaptive.observe(NO_ANSWER)
    assert adaptive.connections == 10
    adaptive.observe(CLEAN)
    for _ in range(3):
        clock.advance(1)
        adaptive.observe(NO_ANSWER)
    assert adaptive.connections == 5


def test_unknown_users_are_no_complaint() -> None:
    adaptive, clock = lane()
    for _ in range(100):
        clock.advance(0.5)
        adaptive.observe(outcome("bounced", 550, "5.1.1", "hard/invalid-recipient", "rcpt"))
    assert adaptive.connections > 2


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (outcome("deferred", 421, None, "soft/server-error", "greeting"), True),
        (outcome("deferred", 451, "4.7.1", "block/policy", "mail"), True),
        (outcome("deferred", 452, "4.3.2", "soft/throttled", "mail"), True),
        (outcome("deferred", 550, "5.7.28", "soft/throttled", "body"), True),
        (outcome("deferred", 451, "4.7.1", "soft/greylisted", "rcpt"), False),
        (outcome("deferred", 450, "4.2.1", "soft/throttled", "rcpt"), False),
        (outcome("deferred", 452, "4.2.2", "soft/mailbox-full", "rcpt"), False),
        (outcome("deferred", 451, "4.3.0", "soft/server-error", "body"), False),
        (outcome("deferred", 421, "4.7.26", "block/auth-failure", "body"), False),
        (outcome("bounced", 550, "5.7.1", "block/reputation", "body"), False),
        (CLEAN, False),
        (NO_ANSWER, False),
    ],
)
def test_it_knows_a_complaint_about_volume_from_other_refusals(
    reply: Outcome, expected: bool
) -> None:
    assert is_complaint(reply) is expected


def test_holds_of_our_own_teach_nothing() -> None:
    adaptive, clock = lane(is_known=True)
    for _ in range(10):
        clock.advance(1)
        adaptive.observe(outcome("deferred", None, None, "soft/throttled", "throttle"))
    assert adaptive.connections == 10


def test_slow_down_holds_the_lane_down_for_its_time_and_then_it_recovers() -> None:
    adaptive, clock = lane(is_known=True)
    feed(adaptive, clock, 100)
    assert adaptive.react(Reaction("slow_down", "r", "t", seconds=600, factor=0.5))
    assert adaptive.connections == 5
    assert adaptive.is_slowed
    feed(adaptive, clock, 500, every=1.0)
    assert adaptive.connections == 5
    feed(adaptive, clock, 600, every=1.0)
    assert not adaptive.is_slowed
    assert adaptive.connections == 10
    assert adaptive.per_second is None


def test_the_reply_and_its_rule_together_cut_once() -> None:
    adaptive, clock = lane(is_known=True)
    feed(adaptive, clock, 100)
    adaptive.observe(SLOW_DOWN)
    adaptive.react(Reaction("slow_down", "r", "t", seconds=600, factor=0.5))
    assert adaptive.connections == 5
    adaptive.react(Reaction("slow_down", "r", "t", seconds=600, factor=0.2))
    assert adaptive.connections == 2


def test_one_connection_is_one_until_its_time_is_over() -> None:
    adaptive, clock = lane(is_known=True)
    assert adaptive.react(Reaction("one_connection", "r", "t", seconds=60))
    feed(adaptive, clock, 59, every=1.0)
    assert adaptive.connections == 1
    feed(adaptive, clock, 10, every=1.0)
    assert adaptive.connections == 2


def test_other_reactions_are_not_its_business() -> None:
    adaptive, _ = lane(is_known=True)
    for kind in ("suspend", "other_source", "hold_batch", "hold_tenant"):
        assert not adaptive.react(Reaction(kind, "r", "t", seconds=60))
    assert adaptive.connections == 10


def test_what_was_learned_goes_on_in_another_process() -> None:
    first, clock = lane(is_known=True)
    feed(first, clock, 100)
    first.react(Reaction("slow_down", "r", "t", seconds=600, factor=0.5))
    second, other_clock = lane(is_known=True)
    second.restore(first.learned())
    assert second.connections == first.connections
    assert second.per_second == first.per_second
    assert second.is_slowed
    other_clock.advance(600)
    assert not second.is_slowed


def test_nonsense_that_was_learned_is_bounded() -> None:
    adaptive, _ = lane()
    adaptive.restore(Learned(window=1e9, ceiling_per_second=-5, frozen_seconds=-1))
    assert adaptive.connections == 10
    assert adaptive.per_second is not None
    assert adaptive.per_second > 0
    adaptive.restore(Learned(window=-3, ceiling_per_second=None, frozen_seconds=0))
    assert adaptive.connections == 1


def test_lower_limits_hold_at_once() -> None:
    adaptive, _ = lane(is_known=True)
    adaptive.change_limits(Limits(3, 10, per_second=1))
    assert adaptive.connections == 3
    assert adaptive.per_second == 1


EVENTS = st.one_of(
    st.sampled_from([CLEAN, SLOW_DOWN, NO_ANSWER]),
    st.builds(
        lambda kind, seconds, factor: Reaction(kind, "r", "t", seconds, factor),
        st.sampled_from(["slow_down", "one_connection", "suspend"]),
        st.floats(0, 1000),
        st.floats(0.01, 0.99),
    ),
)


@given(
    st.integers(1, 50),
    st.booleans(),
    st.lists(st.tuples(st.floats(0, 100), EVENTS), max_size=80),
)
def test_whatever_happens_the_bounds_hold_and_only_clean_replies_raise_it(
    most: int, is_known: bool, events: list[tuple[float, Outcome | Reaction]]
) -> None:
    adaptive, clock = lane(Limits(most, 100, per_second=50), is_known=is_known)
    for pause, event in events:
        clock.advance(pause)
        before, was_slowed = adaptive.connections, adaptive.is_slowed
        if isinstance(event, Reaction):
            adaptive.react(event)
        else:
            adaptive.observe(event)
        assert 1 <= adaptive.connections <= most
        assert adaptive.per_second is not None
        assert 0 < adaptive.per_second <= 50
        if event is not CLEAN or was_slowed:
            assert adaptive.connections <= before
        else:
            assert adaptive.connections <= before + 1
