"""What `python -m esp.stack` makes of its arguments."""

from __future__ import annotations

import os

import pytest

from esp.stack.__main__ import _in_parallel


def test_all_tests_run_by_one_process_more_than_there_are_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    expected = ["-n", "3", "--dist", "loadgroup"]
    assert _in_parallel([]) == _in_parallel(["--durations=10"]) == expected
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert _in_parallel([])[1] == "6", "Valkey has no more databases"


@pytest.mark.parametrize("chosen", [["tests/esp"], ["-k", "import"], ["-n", "4"], ["--pdb"]])
def test_a_choice_of_tests_runs_as_it_is_told(chosen: list[str]) -> None:
    assert _in_parallel([*chosen, "--durations=5"]) == []
