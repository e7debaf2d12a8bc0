"""Jobs in line: in turn by destination, none above its share, nothing lost."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sending.engine.lineup import Lineup


def test_destinations_take_turns() -> None:
    line: Lineup[int] = Lineup(share=9, ahead=0)
    for number, name in enumerate("aaabbc"):
        line.add(name, number)
    assert [line.take() for _ in range(7)] == [
        ("a", 0), ("b", 3), ("c", 5), ("a", 1), ("b", 4), ("a", 2), None,
    ]  # fmt: skip


def test_none_is_served_above_its_share() -> None:
    line: Lineup[int] = Lineup(share=2, ahead=1)
    for number in range(4):
        line.add("a", number)
    assert (line.take(), line.take(), line.take()) == (("a", 0), ("a", 1), None)
    assert (line.ready, line.full()) == (0, ({"a"}, set()))
    line.done("a")
    assert line.ready == 2
    assert line.take() == ("a", 2)
    assert line.drain() == [3]
    assert line.take() is None


def test_at_one_destination_parties_take_turns() -> None:
    line: Lineup[int] = Lineup(share=9, ahead=0)
    for number in range(4):
        line.add("a", number, "campaign")
    line.add("a", 10, "receipts")
    line.add("a", 11, "receipts")
    found = [line.take() for _ in range(6)]
    assert [job for _, job in filter(None, found)] == [0, 10, 1, 11, 2, 3]


def test_a_destination_that_has_enough_takes_in_who_has_nothing_there() -> None:
    line: Lineup[int] = Lineup(share=2, ahead=1)
    for number in range(5):
        line.add("a", number, "campaign")
    assert line.full() == (set(), {("campaign", "a")})
    for number in range(4):
        line.add("a", number, f"party {number}")
    assert line.full() == ({"a"}, set())


@given(st.lists(st.tuples(st.sampled_from(["add", "take", "done"]), st.sampled_from("abc"))))
def test_it_keeps_count_whatever_the_order(steps: list[tuple[str, str]]) -> None:
    line: Lineup[int] = Lineup(share=2, ahead=1)
    waiting: Counter[str] = Counter()
    busy: Counter[str] = Counter()
    for number, (step, name) in enumerate(steps):
        if step == "add":
            line.add(name, number)
            waiting[name] += 1
        elif step == "take":
            taken = line.take()
            can = {one for one in waiting if waiting[one] and busy[one] < 2}
            assert (taken is None) == (not can)
            if taken is not None:
                assert taken[0] in can
                waiting[taken[0]] -= 1
                busy[taken[0]] += 1
        elif busy[name]:
            line.done(name)
            busy[name] -= 1
        assert line.ready == sum(n for one, n in waiting.items() if busy[one] < 2)
    assert len(line.drain()) == sum(waiting.values())
