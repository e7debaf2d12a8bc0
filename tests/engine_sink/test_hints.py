"""Retry hints: how long a reply asks us to wait."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sending.engine.shaping.hints import LONGEST, SHORTEST, retry_after


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("try again in 300 seconds", 300),
        ("4.7.1 Please retry after 5 minutes", 300),
        ("450 4.7.1 <bob@example.com>: Recipient address rejected: Greylisted for 4 minutes", 240),
        ("421 4.7.0 Rate exceeded. Retry-After: 60", 60),
        ("Retry-After: 5 minutes", 300),
        ("4.2.0 Greylisted, see http://postgrey.example/help/x.html; try again in 00:04:59", 299),
        ("Greylisting in action, please come back in 01:00", 60),
        ("Please try again in an hour", 3600),
        ("please wait 15 minutes before retrying", 900),
        ("deferred; retry in 1h", 3600),
        ("Try again in 5min", 300),
        ("Temporarily blocked for 2 hours", 7200),
        ("10 minutes until you can try again", 600),
        ("Bitte versuchen Sie es in 5 Minuten erneut", 300),
        ("Veuillez reessayer dans 10 minutes", 600),
        ("intente de nuevo en 2 horas", 7200),
        ("Greylisted for 60 seconds by ZEROSPAM", 60),
        ("retry=120", 120),
    ],
)
def test_it_reads_hints_as_servers_word_them(text: str, seconds: float) -> None:
    assert retry_after(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Try again later",
        "You have exceeded 30 messages in 60 seconds",
        "limit of 100 messages per 60 minutes, try again later",
        "try again later. Your limit is 100 messages per 60 minutes",
        "idle for 300 seconds",
        "retry timeout exceeded",
        "try again later (S77714) [192.0.2.1]",
        "come back after 14:05",
        "service returns at 08:00:00, try later",
        "5.1.1 No such user",
    ],
)
def test_other_numbers_are_no_hints(text: str) -> None:
    assert retry_after(text) is None


def test_a_hint_is_bounded_to_half_a_minute_and_a_day() -> None:
    assert retry_after("try again in 1 second") == SHORTEST
    assert retry_after("try again in 0 seconds") == SHORTEST
    assert retry_after("retry after 9999999 days") == LONGEST


@given(st.text(max_size=300))
def test_whatever_a_server_says_the_hint_is_none_or_bounded(text: str) -> None:
    hint = retry_after(text)
    assert hint is None or SHORTEST <= hint <= LONGEST


@given(st.integers(0, 10_000_000), st.sampled_from(["seconds", "minutes", "hours", "s", "min"]))
def test_a_longer_wait_is_never_read_as_a_shorter_one(number: int, unit: str) -> None:
    one = retry_after(f"try again in {number} {unit}")
    more = retry_after(f"try again in {number + 1} {unit}") if number < 9_999_999 else LONGEST
    if one is not None and more is not None:
        assert one <= more


@pytest.mark.parametrize("unit", ["try ", "again ", "1 ", "00:", "retry in ", "wait 1", "\x00"])
def test_hostile_text_is_read_in_no_time(unit: str) -> None:
    start = time.process_time()
    for _ in range(10):
        retry_after(unit * (4000 // len(unit)))
    assert time.process_time() - start < 0.5
