"""Clocks that are passed in."""

from __future__ import annotations

import datetime as dt

import pytest

from esp.lib.clock import ManualClock, SystemClock


def test_the_system_clock_is_aware_and_moves_on() -> None:
    clock = SystemClock()
    first = clock.monotonic()
    assert abs((clock.now() - dt.datetime.now(tz=dt.UTC)).total_seconds()) < 5
    assert clock.monotonic() >= first


def test_the_manual_clock_moves_only_when_told() -> None:
    start = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
    clock = ManualClock(start)
    clock.advance(90)
    assert clock.now() == start + dt.timedelta(seconds=90)
    assert clock.monotonic() == 90


def test_the_manual_clock_refuses_naive_starts_and_steps_back() -> None:
    with pytest.raises(ValueError, match="aware"):
        ManualClock(dt.datetime(2026, 11, 1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="forward"):
        ManualClock(dt.datetime(2026, 11, 1, tzinfo=dt.UTC)).advance(-1)
