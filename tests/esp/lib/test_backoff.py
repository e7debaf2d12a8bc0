"""When to try again."""

from __future__ import annotations

import datetime as dt
import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esp.lib.backoff import (
    PACES,
    SCHEDULES,
    Schedule,
    expiry,
    next_attempt_at,
    paced,
    schedule_for,
)

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


# --- By class, by hint, by life ---


def first_waits(stream: str, classification: str) -> tuple[float, float]:
    schedule = schedule_for(stream, classification)
    return schedule.floor_seconds, schedule.ceiling_seconds


def test_greylisting_is_tried_again_within_minutes_and_a_full_mailbox_after_hours() -> None:
    assert first_waits("broadcast", "soft/greylisted") == (60, 300)
    assert first_waits("broadcast", "soft/mailbox-full") == (7200, 14400)
    assert first_waits("broadcast", "soft/network-error") == (120, 360)
    assert first_waits("broadcast", "soft/server-error") == (150, 450)
    assert first_waits("broadcast", "block/reputation") == first_waits("broadcast", "block/policy")


def test_no_class_makes_an_urgent_stream_wait_longer_than_its_cap() -> None:
    for classification in (*PACES, "block/spam", "unknown/unknown"):
        for stream, schedule in SCHEDULES.items():
            slowed = schedule_for(stream, classification)
            assert slowed.cap_seconds <= schedule.cap_seconds
            assert slowed.expires_after_seconds == schedule.expires_after_seconds
    assert first_waits("transactional", "soft/mailbox-full") == (1800, 3600)


def test_a_sign_in_code_is_given_up_after_minutes_and_tried_often_until_then() -> None:
    schedule = SCHEDULES["otp"]
    assert expiry(START, schedule) == START + dt.timedelta(minutes=10)
    for classification in ("", "soft/greylisted", "soft/mailbox-full", "block/reputation"):
        assert max(waits(paced(schedule, classification), 50)) <= 60


def test_a_message_with_a_short_life_is_tried_like_a_sign_in_code() -> None:
    short = schedule_for("transactional", lifetime_seconds=300)
    assert (short.name, short.expires_after_seconds) == ("otp", 300)
    assert schedule_for("transactional", lifetime_seconds=7200).name == "transactional"
    assert schedule_for("rehearsal", lifetime_seconds=60).name == "rehearsal"


def test_a_senders_own_time_to_live_shortens_and_never_lengthens() -> None:
    schedule = SCHEDULES["transactional"]
    assert expiry(START, schedule, ttl_seconds=300) == START + dt.timedelta(minutes=5)
    assert expiry(START, schedule, ttl_seconds=10**9) == START + dt.timedelta(days=1)
    assert expiry(START, schedule, ttl_seconds=-5) == START + dt.timedelta(seconds=1)


def test_a_hint_is_kept_and_not_all_come_back_at_once() -> None:
    schedule = SCHEDULES["broadcast"]
    drawn = [
        next_attempt_at(1, START, schedule, accepted_at=START, hint_seconds=300) for _ in range(200)
    ]
    seconds = [(moment - START).total_seconds() for moment in drawn if moment is not None]
    assert len(seconds) == 200
    assert min(seconds) >= 300
    assert max(seconds) <= 330
    assert len(set(seconds)) > 190


def test_a_hint_beyond_the_expiry_leaves_one_last_try_before_it() -> None:
    schedule = SCHEDULES["otp"]
    moment = next_attempt_at(1, START, schedule, accepted_at=START, hint_seconds=3600)
    assert moment is not None
    assert dt.timedelta(minutes=9) <= moment - START < dt.timedelta(minutes=10)
    late = START + dt.timedelta(minutes=9, seconds=58)
    assert next_attempt_at(5, late, schedule, accepted_at=START, hint_seconds=3600) is None


def test_the_simulated_internet_keeps_its_own_time() -> None:
    schedule = SCHEDULES["rehearsal"]
    moment = next_attempt_at(
        1, START, schedule, accepted_at=START, classification="soft/mailbox-full", hint_seconds=600
    )
    assert moment is not None
    assert moment - START <= dt.timedelta(seconds=2)


def test_a_messages_life_has_to_be_known() -> None:
    with pytest.raises(TypeError, match="expires_at"):
        next_attempt_at(1, START, PATIENT)
    with pytest.raises(KeyError):
        schedule_for("no such stream")


CLASSES = st.sampled_from([*PACES, "", "soft/server-error", "block/spam", "unknown/unknown"])
STREAMS = st.sampled_from(sorted(SCHEDULES))


@given(
    stream=STREAMS,
    classification=CLASSES,
    attempt=st.integers(1, 10_000),
    age=st.floats(-3600, 400_000),
    hint=st.one_of(st.none(), st.floats(-10, 200_000)),
    seed=st.integers(),
)
def test_a_try_lies_ahead_and_before_the_expiry(
    *, stream: str, classification: str, attempt: int, age: float, hint: float | None, seed: int
) -> None:
    schedule = SCHEDULES[stream]
    now = START + dt.timedelta(seconds=age)
    moment = next_attempt_at(
        attempt,
        now,
        schedule,
        accepted_at=START,
        classification=classification,
        hint_seconds=hint,
        rng=random.Random(seed),
    )
    if moment is not None:
        assert now < moment < expiry(START, schedule)


@given(STREAMS, CLASSES, st.integers(1, 200), st.integers())
def test_with_the_same_luck_a_later_attempt_never_waits_less(
    stream: str, classification: str, attempt: int, seed: int
) -> None:
    far = START + dt.timedelta(days=365)
    first, second = (
        next_attempt_at(
            number,
            START,
            SCHEDULES[stream],
            expires_at=far,
            classification=classification,
            rng=random.Random(seed),
        )
        for number in (attempt, attempt + 1)
    )
    assert first is not None
    assert second is not None
    assert first <= second


@given(st.floats(0.001, 86_400), st.floats(0.001, 86_400), st.integers())
def test_a_longer_hint_never_means_an_earlier_try(one: float, other: float, seed: int) -> None:
    far = START + dt.timedelta(days=3)
    moments = [
        next_attempt_at(
            1,
            START,
            SCHEDULES["otp"],
            expires_at=far,
            hint_seconds=hint,
            rng=random.Random(seed),
        )
        for hint in sorted((one, other))
    ]
    assert moments[0] is not None
    assert moments[1] is not None
    assert START < moments[0] <= moments[1]
