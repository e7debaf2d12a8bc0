"""The scheduler starts whatever a kill has left of its file, and whatever the clock does."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path
from typing import Any

import pytest

from esp.celery import app
from esp.kit.beat import SturdyScheduler


def start(path: Path) -> set[str]:
    """Start and end a scheduler; returns the names of what it would run."""
    scheduler = SturdyScheduler(app=app, schedule_filename=str(path))
    names = set(scheduler.schedule)
    scheduler.close()
    return names


@pytest.mark.parametrize("keep", [0, 1, 40])
def test_it_starts_with_a_file_that_was_cut_short(tmp_path: Path, keep: int) -> None:
    start(tmp_path / "schedule")
    files = list(tmp_path.iterdir())
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[:keep])
    assert "dispatch-wake" in start(tmp_path / "schedule")


def test_it_starts_with_values_that_cannot_be_read(tmp_path: Path) -> None:
    start(tmp_path / "schedule")
    for file in tmp_path.iterdir():
        data = file.read_bytes()
        file.write_bytes(data[: len(data) // 2] + b"\0" * (len(data) - len(data) // 2))
    assert "dispatch-wake" in start(tmp_path / "schedule")


class Recording(SturdyScheduler):
    """Notes what it would send."""

    sent: list[str]

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        self.sent.append(entry.name)


def names_sent(scheduler: Recording, *, seconds: float) -> set[str]:
    """Let the scheduler run for `seconds`; returns what it has sent."""
    scheduler.sent = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(min(0.05, max(0.0, scheduler.tick())))
    return set(scheduler.sent)


@pytest.mark.parametrize("hours", [-30, 30])
def test_it_goes_on_when_the_clock_jumps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    scheduler = Recording(app=app, schedule_filename=str(tmp_path / "schedule"))
    names_sent(scheduler, seconds=2.5)
    real = app.now
    monkeypatch.setattr(app, "now", lambda: real() + dt.timedelta(hours=hours))
    assert "dispatch-wake" in names_sent(scheduler, seconds=2.5)
    assert "dispatch-wake" in names_sent(scheduler, seconds=2.5)
    scheduler.close()


def test_it_goes_on_with_a_file_from_the_future(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = app.now
    monkeypatch.setattr(app, "now", lambda: real() + dt.timedelta(hours=30))
    before = Recording(app=app, schedule_filename=str(tmp_path / "schedule"))
    names_sent(before, seconds=2.5)
    before.close()
    monkeypatch.undo()
    after = Recording(app=app, schedule_filename=str(tmp_path / "schedule"))
    assert "dispatch-wake" in names_sent(after, seconds=2.5)
    after.close()


def test_no_job_is_stale_before_a_busy_worker_or_one_with_another_clock_can_take_it() -> None:
    for name, entry in app.conf.beat_schedule.items():
        assert entry.get("options", {}).get("expires", 10) >= 10, name
