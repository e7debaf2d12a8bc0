"""Counting replies until a reaction is due."""

from __future__ import annotations

from sending.engine.shaping.limits import Reaction
from sending.engine.shaping.tally import Tally

ONCE = Reaction("slow_down", "rule", "title", 60, 0.5)
THIRD = Reaction("suspend", "rule", "title", 600, times=3, within_seconds=100)


def test_a_reaction_without_a_threshold_is_due_at_once() -> None:
    assert Tally().due("lane", [ONCE, THIRD], now=0) == (ONCE,)


def test_the_third_reply_in_time_makes_it_due() -> None:
    tally = Tally()
    assert [tally.due("lane", [THIRD], now=now) for now in (0, 50, 100)] == [(), (), (THIRD,)]


def test_replies_that_are_too_far_apart_do_not_add_up() -> None:
    tally = Tally()
    assert not any(tally.due("lane", [THIRD], now=now) for now in (0, 60, 120, 180, 240))
    assert tally.due("lane", [THIRD], now=250) == (THIRD,)


def test_after_it_was_due_it_counts_anew() -> None:
    tally = Tally()
    due = [bool(tally.due("lane", [THIRD], now=now)) for now in range(9)]
    assert due == [False, False, True] * 3


def test_lanes_and_rules_are_counted_apart() -> None:
    tally = Tally()
    other = Reaction("suspend", "other", "title", 600, times=3, within_seconds=100)
    for _ in range(2):
        assert not tally.due("one", [THIRD], now=0)
        assert not tally.due("two", [THIRD], now=0)
        assert not tally.due("one", [other], now=0)
    assert tally.due("one", [THIRD], now=0) == (THIRD,)


def test_it_remembers_a_bounded_number_of_names() -> None:
    tally = Tally(size=10)
    for number in range(1000):
        tally.due(f"lane {number}", [THIRD], now=number)
    assert len(tally) == 10
