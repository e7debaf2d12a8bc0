"""Several real worker processes against one Valkey of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis

from esp.stack.checks import ROOT
from esp.stack.valkey import ValkeyServer
from sending.lanes.grants import meter_key


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Valkey that the test may flush, stop and fill."""
    server = ValkeyServer(tmp_path)
    server.start()
    yield server
    server.stop()


@dataclass
class Sent:
    """What all workers let through: (start, end) of each message, in the order of starts."""

    spans: list[tuple[float, float]] = field(default_factory=list)
    opened: list[float] = field(default_factory=list)
    by_worker: dict[str, int] = field(default_factory=dict)
    alarms: list[tuple[float, str, bool]] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)

    def most_at_once(self) -> int:
        """Return how many messages were under way at the same time at most."""
        steps = sorted([(a, 1) for a, _ in self.spans] + [(b, -1) for _, b in self.spans])
        now = most = 0
        for _, step in sorted(steps, key=lambda pair: (pair[0], pair[1])):
            now += step
            most = max(most, now)
        return most

    def most_within(self, seconds: float, moments: list[float] | None = None) -> int:
        """Return the most starts in any span of `seconds`, wherever it begins."""
        starts = sorted(moments if moments is not None else [a for a, _ in self.spans])
        most = first = 0
        for last, moment in enumerate(starts):
            while moment - starts[first] >= seconds:
                first += 1
            most = max(most, last - first + 1)
        return most


class Crew:
    """Worker processes under way."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.running: list[tuple[str, subprocess.Popen[str]]] = []

    def start(self, name: str, seconds: float, **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.sending.lanes.one_worker", self.url, name,
             str(seconds), json.dumps(options)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.running.append((name, process))
        return process

    def wait_until_shared(self, workers: int, site: str = "route:x") -> None:
        """Return when so many workers hold connections of the lane, and Valkey has settled."""
        client = redis.Redis.from_url(self.url)
        key = meter_key(f"lane:192.0.2.1|{site}")
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            fields = client.hgetall(key)
            assert isinstance(fields, dict)
            leases = [value for name, value in fields.items() if name.startswith(b"w:")]
            born = float(fields.get(b"born", b"inf"))
            if len([x for x in leases if int(x.split(b"|")[0]) > 0]) >= workers and (
                time.time() - born > 3
            ):
                return
            time.sleep(0.1)
        pytest.fail("the workers did not begin")

    def wait(self) -> Sent:
        sent = Sent()
        for name, process in self.running:
            out, err = process.communicate(timeout=60)
            if process.returncode < 0:
                continue  # killed by the test: what it sent is not known
            assert process.returncode == 0, err
            found = json.loads(out)
            sent.spans += [tuple(span) for span in found["spans"]]
            sent.opened += found["opened"]
            sent.alarms += [tuple(alarm) for alarm in found["alarms"]]
            sent.by_worker[name] = len(found["spans"])
            for reason, count in found["reasons"].items():
                sent.reasons[reason] = sent.reasons.get(reason, 0) + count
        sent.spans.sort()
        return sent


@pytest.fixture
def crew(valkey: ValkeyServer) -> Iterator[Crew]:
    """Starts workers against the test's Valkey; none outlives the test."""
    crew = Crew(valkey.url)
    yield crew
    for _, process in crew.running:
        if process.poll() is None:
            process.kill()
            process.communicate()
