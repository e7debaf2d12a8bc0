"""The scheduler starts whatever a kill has left of its file."""

from __future__ import annotations

from pathlib import Path

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
