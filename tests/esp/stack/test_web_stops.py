"""The web process ends soon after SIGTERM: while it starts, and whatever hangs in it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from esp.stack.assets import ROOT
from esp.stack.world import Ports, product_programs

_HEARING = "from esp.lib.ending import hear_ending\nhear_ending()\n"
_SETTINGS = """
import time
from pathlib import Path

Path("loading").touch()
time.sleep(600)
"""
_APP = """
import time
from pathlib import Path

def application(environ, start_response):
    if environ["PATH_INFO"] == "/hang":
        Path("hanging").touch()
        time.sleep(600)
    start_response("204 No Content", [])
    return []
"""


def _ask(port: int, path: str) -> socket.socket:
    there = socket.create_connection(("127.0.0.1", port), timeout=5)
    there.sendall(f"GET {path} HTTP/1.1\r\nHost: x.test\r\n\r\n".encode())
    return there


def _wait_for(what: str, is_so: object, seconds: float = 60.0) -> None:
    assert callable(is_so)
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def _answers(port: int) -> bool:
    try:
        with _ask(port, "/") as there:
            return there.recv(100).startswith(b"HTTP/1.1 204")
    except OSError:
        return False


def _start_web(
    folder: Path, *, port: int, app: str | None = None, **environment: str
) -> subprocess.Popen[bytes]:
    """Start the web process by the product's own command, or the same with another app."""
    (web,) = [
        program
        for program in product_programs(
            root=folder, logs=folder, environment={}, ports=Ports(web=port)
        )
        if program.name == "web"
    ]
    command = [*web.command[:-1], app or web.command[-1]]
    return subprocess.Popen(
        command, cwd=folder, env={**os.environ, **environment}, start_new_session=True
    )


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End what is left of it after a failure, the worker too."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
    return number


@pytest.mark.timeout(120)
def test_a_request_that_hangs_does_not_hold_up_a_deploy(tmp_path: Path, port: int) -> None:
    (tmp_path / "hanging_app.py").write_text(_APP)
    process = _start_web(tmp_path, port=port, app="hanging_app:application", PYTHONPATH=".")
    try:
        _wait_for("it does not start", lambda: _answers(port))
        with _ask(port, "/hang"):
            _wait_for("it does not hang", (tmp_path / "hanging").exists)
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            assert time.monotonic() - begun < 10
    finally:
        _kill(process)


@pytest.mark.timeout(120)
def test_a_web_process_that_is_still_starting_ends_at_once(tmp_path: Path, port: int) -> None:
    (tmp_path / "slow_settings.py").write_text(_SETTINGS)
    process = _start_web(
        tmp_path, port=port, PYTHONPATH=f".:{ROOT}", DJANGO_SETTINGS_MODULE="slow_settings"
    )
    try:
        _wait_for("it does not start", (tmp_path / "loading").exists)
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        assert time.monotonic() - begun < 5  # after eight seconds its worker is killed
    finally:
        _kill(process)


@pytest.mark.timeout(120)
def test_a_web_process_hears_the_signal_that_another_thread_took(tmp_path: Path, port: int) -> None:
    (tmp_path / "hearing_app.py").write_text(_HEARING + _APP)
    process = _start_web(tmp_path, port=port, app="hearing_app:application", PYTHONPATH=f".:{ROOT}")
    try:
        _wait_for("it does not start", lambda: _answers(port))
        worker = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        threads = sorted(int(task.name) for task in Path(f"/proc/{worker}/task").iterdir())
        others = [thread for thread in threads if thread != worker]
        assert ctypes.CDLL(None).tgkill(worker, others[-1], signal.SIGTERM) == 0
        assert process.wait(60) == 1, "Granian ends with a worker that ends by itself"
    finally:
        _kill(process)
