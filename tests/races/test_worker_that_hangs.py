"""A worker with a job that does not end is ended in time, and its children with it."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from esp.celery import app
from esp.kit.valkey import client
from esp.stack.crash import children_of
from tests.races import processes

_HANGING_TASK = """
import time
from pathlib import Path

@app.task(name="hang")
def hang(path):
    Path(path).touch()
    time.sleep(600)
"""


def _wait(path: Path) -> None:
    end = time.monotonic() + 110
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.05)


@pytest.mark.timeout(280)
def test_a_job_that_hangs_does_not_hold_up_a_deploy(tmp_path: Path) -> None:
    log, begun_at = tmp_path / "worker.log", tmp_path / "begun"
    client().delete("hanging")
    worker = processes.start_celery(log, queue="hanging", before=_HANGING_TASK)
    children: list[int] = []
    try:
        # A connection of its own: the process' pool may have been closed by a test before.
        with app.connection_for_write() as broker:
            app.send_task("hang", [str(begun_at)], queue="hanging", connection=broker)
        _wait(begun_at)
        children = children_of(worker.pid)
        seconds = processes.seconds_to_end(worker, signal.SIGTERM)
    finally:
        processes.kill(worker)
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
