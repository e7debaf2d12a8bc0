"""Starts a set of programs, watches them, starts the fallen again, stops them in order.

The programs are children in sessions of their own: Ctrl-C reaches the supervisor alone, which then
stops the last started first. Each writes to `<logs>/<name>.log`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from esp.stack.errors import StackError

MARK = "MAILWRIGHT_STACK"
_LOG_LIMIT = 10 * 1024 * 1024
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0
_STEADY_SECONDS = 30.0
_HOPELESS = 3  # falls in a row after which waiting for a part is no use


class Part(Protocol):
    """Something that can be started, watched and stopped: a program or an embedded server."""

    name: str
    log: Path

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def is_running(self) -> bool: ...


class Program:
    """One child process with its environment, its log and its way to stop.

    `stop_signal` asks it to end; after `stop_seconds` its whole process group is killed.
    """

    def __init__(
        self,
        *,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        logs: Path,
        stop_signal: int = signal.SIGTERM,
        stop_seconds: float = 15.0,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.environment = dict(environment)
        self.folder = folder
        self.log = logs / f"{name}.log"
        self.stop_signal = stop_signal
        self.stop_seconds = stop_seconds
        self.exit_code: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self.is_running() else None

    def start(self) -> None:
        """Start the program; it may need a while until it is of use."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT:
            self.log.replace(self.log.with_suffix(".log.1"))
        with open(self.log, "ab") as log:
            try:
                self._process = subprocess.Popen(
                    self.command,
                    cwd=self.folder,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise StackError(
                    f"The program {self.name} cannot be started ({error}): "
                    f"check that {self.command[0]} is installed."
                ) from error

    def is_running(self) -> bool:
        """Say whether the process is alive; its exit code is kept when it is not."""
        if self._process is None:
            return False
        self.exit_code = self._process.poll()
        return self.exit_code is None

    def ask_to_stop(self) -> None:
        """Send the stop signal without waiting."""
        if self._process is not None and self.is_running():
            self._process.send_signal(self.stop_signal)

    def stop(self) -> None:
        """Ask the program to end, wait, and kill what is left of its process group."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(self.stop_signal)
            try:
                process.wait(self.stop_seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        self.exit_code = process.wait()

    def last_lines(self, count: int = 5) -> str:
        """Return the end of its log, for a person."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").strip().splitlines()[-count:])


@dataclass(slots=True)
class _Watch:
    """How a part has been doing."""

    started_at: float = 0.0
    failures: int = 0
    next_start_at: float | None = None


@dataclass(slots=True)
class Supervisor:
    """Keeps parts alive. `say` receives one line for people about each fall and restart.

    The pause before a restart doubles with each fall in a row, up to `longest_pause` seconds.
    """

    say: Callable[[str], None]
    longest_pause: float = _LONGEST_PAUSE
    parts: list[Part] = field(default_factory=list)
    restarts: int = 0
    _watches: dict[str, _Watch] = field(default_factory=dict)
    _ending: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def add_running(self, part: Part) -> None:
        """Take over a part that was started already (the embedded servers)."""
        self.parts.append(part)
        self._watches[part.name] = _Watch(started_at=time.monotonic())

    def start(self, part: Part) -> None:
        """Start a part and keep it alive from now on. Raises `StackError`."""
        part.start()
        self.add_running(part)

    def watch(self) -> None:
        """Begin to observe, in a thread."""
        self._thread = threading.Thread(target=self._observe, name="supervisor", daemon=True)
        self._thread.start()

    def wait_until(
        self,
        ready: Callable[[], bool],
        *,
        part: Part,
        seconds: float = 60.0,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Wait until `ready()`; raise `StackError` when `part` cannot be brought up in time."""
        deadline = time.monotonic() + seconds
        while not ready():
            watch = self._watches[part.name]
            if watch.failures >= _HOPELESS or time.monotonic() > deadline:
                raise StackError(f"{part.name} does not come up: {part.log} says why.")
            if cancelled():
                return
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop every part, the last started first."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
        programs = [part for part in self.parts if isinstance(part, Program)]
        # All are asked at once and then waited for one by one, so that the slowest sets the time.
        for program in reversed(programs):
            program.ask_to_stop()
        for part in reversed(self.parts):
            part.stop()
        self.parts.clear()

    def _observe(self) -> None:
        while not self._ending.wait(0.25):
            for part in list(self.parts):
                if self._ending.is_set():
                    return
                self._look_after(part, self._watches[part.name])

    def _look_after(self, part: Part, watch: _Watch) -> None:
        now = time.monotonic()
        if part.is_running():
            if watch.failures and now - watch.started_at > _STEADY_SECONDS:
                watch.failures = 0
            return
        if watch.next_start_at is None:
            watch.failures += 1
            pause = min(_FIRST_PAUSE * 2 ** (watch.failures - 1), self.longest_pause)
            watch.next_start_at = now + pause
            code = getattr(part, "exit_code", None)
            ended = "ended" if code is None else f"ended with code {code}"
            self.say(f"{part.name} {ended} and is started again in {pause:.1f} s ({part.log})")
            if watch.failures == _HOPELESS and isinstance(part, Program):
                self.say(f"{part.name} keeps falling: {part.last_lines(1)}")
        if now < watch.next_start_at:
            return
        watch.next_start_at, watch.started_at = None, now
        self.restarts += 1
        try:
            part.start()
        except StackError as error:
            self.say(f"{part.name}: {error}")


def stop_marked(mark: str, *, seconds: float = 10.0) -> int:
    """End programs that an earlier supervisor, killed itself, left behind; return their number.

    Ours are known by `MAILWRIGHT_STACK=<mark>` in their environment, so nobody else's is touched.
    """
    left = _marked(mark)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while remaining := _marked(mark):
        if time.monotonic() > deadline:
            for pid in remaining:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            break
        time.sleep(0.1)
    return len(left)


def _marked(mark: str) -> list[int]:
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if folder.stat().st_uid != os.geteuid():
                continue
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:  # it ended meanwhile, or is not ours to read
            continue
    return found
