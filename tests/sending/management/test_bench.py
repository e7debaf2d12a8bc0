"""The benchmarks in small: as a stranger runs them, with nothing in the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from esp.stack.assets import ROOT
from esp.stack.benchmark import needs_servers
from sending.management.bench.people import write_people

_OURS = ("MAILWRIGHT_", "DATABASE_URL", "OWNER_", "WORKER_", "REDIS_", "SECRET_", "DATA_DIR")


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder whose path is short enough for a unix socket in it (108 bytes)."""
    with tempfile.TemporaryDirectory(prefix="mw-") as name:
        yield Path(name)


def bench(*arguments: str, folder: Path) -> dict[str, Any]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "bench", *arguments],
        env={**environment, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.timeout(300)
def test_an_import_is_counted_to_the_row_and_leaves_nothing_behind(folder: Path) -> None:
    figures = bench("import", "--rows", "2500", folder=folder)
    assert figures["lost"] == 0
    assert figures["contacts"] == 2500 - 3
    assert figures["bad_rows_found"] == figures["bad_rows_in_file"] == 3
    assert figures["rows_per_second"] > 0
    assert figures["reads"]["role"] == "mailwright_app"
    assert list(folder.iterdir()) == []


@pytest.mark.timeout(300)
def test_a_delivery_reaches_the_sink_once_for_every_recipient(folder: Path) -> None:
    figures = bench("delivery", "--recipients", "200", "--sign", "both", folder=folder)
    assert figures["messages"] == figures["delivered"] == 200
    assert (figures["lost"], figures["duplicates"], figures["unknown_to_us"]) == (0, 0, 0)
    assert figures["messages_per_second"] > 0
    assert figures["signing_limit_per_second"] > 0
    parts = figures["cpu_ms_per_message"]
    assert {"claim", "render", "mime", "sign", "smtp", "record", "other"} <= parts.keys()
    assert all(parts[part] > 0 for part in ("claim", "render", "mime", "sign", "smtp", "record"))
    assert figures["bytes_per_message"] > 7000
    assert list(folder.iterdir()) == []


@pytest.mark.timeout(300)
def test_the_bytes_of_a_message_are_measured_by_part(folder: Path) -> None:
    figures = bench("bytes", "--messages", "100", folder=folder)
    assert figures["bytes_per_message"] > 7000
    costs = figures["cpu_ms_per_message"]
    assert all(costs[part]["fastest"] > 0 for part in ("make", "envelope", "rsa_operation"))
    assert costs["sign_rsa"]["median"] > costs["envelope"]["median"]
    assert list(folder.iterdir()) == []


@pytest.mark.timeout(600)
def test_a_long_queue_is_prepared_by_two_measured_and_given_back(folder: Path) -> None:
    figures = bench("scale", "--rows", "3000", "--preparers", "2", folder=folder)
    assert (figures["rows"], figures["preparers"]) == (3000, 2)
    assert figures["prepare_rows_per_second"] > 0
    assert figures["prepare_cpu_us_per_row"]["postgres"] > 0
    assert figures["cost_us_per_message_long_queue"]["postgres"] > 0
    # So few rows find half of their room among those of the short queue that vacuum freed.
    assert figures["bytes_per_row"]["sending_message"] > 0
    fill, sent, left = (
        figures[f"bytes_after_{when}"]["sending_message"] for when in ("fill", "sent", "retention")
    )
    assert left < fill < sent
    assert figures["given_back_by_retention"] >= sent - left
    assert list(folder.iterdir()) == []


def test_the_people_are_the_same_every_time_and_their_flaws_are_counted(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("one.csv", "two.csv")]
    people = [write_people(file, rows=4000, domains=20, flawed=True) for file in files]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert people[0] == people[1]
    assert (people[0].bad, people[0].repeats) == (4, 2)
    rows = files[0].read_text(encoding="utf-8").splitlines()[1:]
    addresses = [row.partition(",")[0].lower() for row in rows]
    assert len(set(addresses)) == 4000 - people[0].repeats


def test_only_a_benchmark_starts_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAILWRIGHT_BENCH", raising=False)
    assert needs_servers(["manage.py", "bench", "import"])
    assert not needs_servers(["manage.py", "bench", "--help"])
    assert not needs_servers(["manage.py", "migrate"])
    monkeypatch.setenv("MAILWRIGHT_BENCH", "/somewhere")
    assert not needs_servers(["manage.py", "bench", "worker"])
