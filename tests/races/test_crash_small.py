"""Everything is killed once under load, by the benchmark itself; the mailboxes agree afterwards.

`manage.py bench crash` is the long form. It starts servers and programs of its own on free ports.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from subprocess import PIPE

import pytest

from esp.stack.assets import ROOT


@pytest.mark.timeout(280)
def test_nothing_is_lost_or_stuck_and_only_open_transactions_are_doubled() -> None:
    command = [
        sys.executable, "manage.py", "bench", "crash", "--json", "--seed", "3",
        "--recipients", "420", "--seconds", "1", "--settle-seconds", "100", "--api-rate", "4",
    ]  # fmt: skip
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST", "DJANGO", "MAILWRIGHT_BENCH"))
    }
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=PIPE, stderr=PIPE, text=True
    ) as bench:
        try:
            out, said = bench.communicate()
        finally:
            # Asked, not killed, when the test's time is over: else its servers and programs run on.
            bench.terminate()
    assert bench.returncode == 0, said[-3000:]
    figures = json.loads(out.strip().splitlines()[-1])
    told = f"{figures}\n{said[-3000:]}"
    assert figures["kills"] >= 7, told
    assert set(figures["kills_by_kind"]) == {
        "worker", "workers", "web", "scheduler", "valkey", "postgres", "terminate",
    }, told  # fmt: skip
    assert figures["lost"] == 0, told
    assert figures["stuck"] == 0, told
    assert figures["duplicates"] <= figures["open_at_kill"], told
    for none in ("unexplained", "sigterm_duplicates", "other_message_ids", "accepted_twice",
                 "miscounted"):  # fmt: skip
        assert figures[none] == 0, told
    assert figures["sigterm_seconds"] < 10, told
    assert figures["answers_not_read"] > 0, told
    assert figures["promised_by_api"] > 0, told
    assert figures["messages"] > figures["promised_by_api"] + 300, told
