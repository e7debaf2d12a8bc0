"""The supervisor: it starts the fallen again, stops in order, and finds what a killed one left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from esp.stack.errors import StackError
from esp.stack.supervisor import MARK, Program, Supervisor, stop_marked

_SLEEPER = "import time\nprint('up', flush=True)\ntime.sleep(60)"
_STUBBORN = (
    "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('up', flush=True)\ntime.sleep(60)"
)


def _program(tmp_path: Path, name: str, code: str, **changes: object) -> Program:
    options: dict[str, object] = {
        "name": name,
        "command": [sys.executable, "-c", code],
        "environment": dict(os.environ),
        "folder": tmp_path,
        "logs": tmp_path / "log",
        **changes,
    }
    return Program(**options)  # type: ignore[arg-type]


def _eventually(true: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.02)
    return False


def test_a_killed_program_is_started_again_and_announced(tmp_path: Path) -> None:
    said: list[str] = []
    supervisor = Supervisor(say=said.append)
    program = _program(tmp_path, "sleeper", _SLEEPER)
    supervisor.start(program)
    supervisor.watch()
    try:
        first = program.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert _eventually(lambda: program.pid not in (None, first))
    finally:
        supervisor.stop()
    assert supervisor.restarts == 1
    assert len(said) == 1
    assert said[0].startswith("sleeper ended with code -9 and is started again")


def test_a_program_that_keeps_falling_is_reported_with_its_log(tmp_path: Path) -> None:
    said: list[str] = []
    supervisor = Supervisor(say=said.append)
    program = _program(tmp_path, "broken", "raise SystemExit('no such setting')")
    supervisor.start(program)
    supervisor.watch()
    try:
        with pytest.raises(StackError, match=r"broken does not come up: .*broken\.log"):
            supervisor.wait_until(lambda: False, part=program, seconds=20)
    finally:
        supervisor.stop()
    assert "broken keeps falling: no such setting" in said


def test_it_stops_the_last_started_first(tmp_path: Path) -> None:
    order: list[str] = []

    class Recorded:
        def __init__(self, name: str) -> None:
            self.name, self.log = name, tmp_path / name

        def start(self) -> None:
            order.append(f"start {self.name}")

        def stop(self) -> None:
            order.append(f"stop {self.name}")

        def is_running(self) -> bool:
            return True

    supervisor = Supervisor(say=order.append)
    for name in ("database", "web"):
        supervisor.start(Recorded(name))
    supervisor.stop()
    assert order == ["start database", "start web", "stop web", "stop database"]


def test_a_program_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    program = _program(tmp_path, "stubborn", _STUBBORN, stop_seconds=0.3)
    program.start()
    assert _eventually(lambda: "up" in program.last_lines())
    program.stop()
    assert program.exit_code == -signal.SIGKILL


def test_a_missing_program_is_one_sentence(tmp_path: Path) -> None:
    program = _program(tmp_path, "ghost", "", command=["/nonexistent/ghost"])
    with pytest.raises(StackError, match="The program ghost cannot be started"):
        program.start()


def test_programs_of_a_killed_supervisor_are_found_by_their_mark_alone(tmp_path: Path) -> None:
    mark = str(tmp_path)
    command = [sys.executable, "-c", _SLEEPER]
    ours, other = (
        subprocess.Popen(command, env={**os.environ, MARK: value}, stdout=subprocess.PIPE)
        for value in (mark, f"{mark}-other")
    )
    try:
        for process in (ours, other):
            assert process.stdout is not None
            process.stdout.readline()
        # A reaper, as init is for orphans: the dead must not linger as zombies of this process.
        stopped = stop_marked(mark, seconds=5)
        assert stopped == 1
        assert ours.wait(5) == -signal.SIGTERM
        assert other.poll() is None
        assert stop_marked(mark) == 0
    finally:
        for process in (ours, other):
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
