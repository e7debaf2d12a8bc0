"""A worker with a job that does not end is ended in time, and its children with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from esp.celery import app
from esp.kit.valkey import client
from esp.stack.crash import children_of

_PROGRAM = """
import sys, time
from pathlib import Path
from esp.celery import app

@app.task(name="hang")
def hang(path):
    Path(path).touch()
    time.sleep(600)

app.worker_main(["worker", "-Q", "hanging", "-c", "1", "-n", sys.argv[1], "-l", "INFO",
                 "--without-gossip", "--without-mingle"])
"""


def _wait(path: Path, text: str = "") -> None:
    end = time.monotonic() + 110
    while not path.exists() or text not in path.read_text(errors="replace"):
        assert time.monotonic() < end, path
        time.sleep(0.05)


@pytest.mark.timeout(280)
def test_a_job_that_hangs_does_not_hold_up_a_deploy(tmp_path: Path) -> None:
    log, begun_at = tmp_path / "worker.log", tmp_path / "begun"
    client().delete("hanging")
    with log.open("wb") as out:
        worker = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, f"hanging{os.getpid()}@%h"],
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "esp.settings"},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    children: list[int] = []
    try:
        _wait(log, " ready.")
        # A connection of its own: the process' pool may have been closed by a test before.
        with app.connection_for_write() as broker:
            app.send_task("hang", [str(begun_at)], queue="hanging", connection=broker)
        _wait(begun_at)
        children = children_of(worker.pid)
        begun = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        worker.wait(30)
        seconds = time.monotonic() - begun
    finally:
        for pid in (worker.pid, *children):
            if Path(f"/proc/{pid}").exists() and worker.returncode is None:
                os.kill(pid, signal.SIGKILL)
        worker.wait()
    told = log.read_text(errors="replace")
    assert seconds < 10, told[-3000:]
    assert "has not come to its end" in told
    assert "Thread" in told, "where it hung is in the log"
    assert children
    end = time.monotonic() + 5
    while alive := [pid for pid in children if _runs(pid)]:
        assert time.monotonic() < end, alive
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
