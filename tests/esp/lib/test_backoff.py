"""When to try again."""

from __future__ import annotations

import datetime as dt
import itertools
import random

import pytest

from esp.lib.backoff import SCHEDULES, Schedule, expiry, next_attempt_at

START = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
PATIENT = Schedule("patient", 10, 20, 160, 10_000)


def waits(schedule: Schedule, attempt: int, count: int = 500) -> list[float]:
    rng = random.Random(attempt)
    moments = (
        next_attempt_at(attempt, START, schedule, accepted_at=START, rng=rng) for _ in range(count)
    )
    return [(moment - START).total_seconds() for moment in moments if moment is not None]


def test_the_first_waits_average_a_minute_and_five_minutes() -> None:
    assert 55 < sum(waits(SCHEDULES["transactional"], 1)) / 500 < 65
    assert 280 < sum(waits(SCHEDULES["broadcast"], 1)) / 500 < 320


def test_waits_grow_are_spread_and_stop_at_the_cap() -> None:
    for attempt, ceiling in [(1, 20), (2, 40), (3, 80), (4, 160), (5, 160), (5000, 160)]:
        drawn = waits(PATIENT, attempt)
        assert len(drawn) == 500
        assert min(drawn) >= 10
        assert ceiling * 0.9 < max(drawn) <= ceiling
        assert len(set(drawn)) > 490


def test_a_try_after_the_expiry_is_not_made() -> None:
    schedule = Schedule("short", 10, 10, 10, 30)
    moments = []
    now = START
    for attempt in itertools.count(1):
        moment = next_attempt_at(attempt, now, schedule, accepted_at=START, rng=random.Random(1))
        if moment is None:
            break
        moments.append((moment - START).total_seconds())
        now = moment
    assert moments == [10, 20]
    assert expiry(START, schedule) == START + dt.timedelta(seconds=30)


@pytest.mark.parametrize(
    ("name", "low", "high"), [("transactional", 20, 60), ("broadcast", 15, 60)]
)
def test_a_message_gets_a_sensible_number_of_tries(name: str, low: int, high: int) -> None:
    rng = random.Random(4)
    now: dt.datetime | None = START
    tries = 0
    while now is not None:
        tries += 1
        now = next_attempt_at(tries, now, SCHEDULES[name], accepted_at=START, rng=rng)
    assert low <= tries <= high


def test_rehearsal_waits_seconds() -> None:
    for attempt in range(1, 20):
        assert all(1 <= wait <= 8 for wait in waits(SCHEDULES["rehearsal"], attempt, 50))


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="first attempt"):
        next_attempt_at(0, START, PATIENT, accepted_at=START)
    with pytest.raises(ValueError, match="floor"):
        Schedule("odd", 10, 5, 20, 100)
    with pytest.raises(ValueError, match="factor"):
        Schedule("odd", 1, 2, 3, 100, factor=0.5)
