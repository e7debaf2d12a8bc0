"""The installation that `manage.py bench crash` kills: servers and programs, obeying in lines.

The benchmark's own process (the Django side) has the workload and decides what falls when; it
writes a line `!{"do": …}` and gets one line of JSON back. All other lines are its output.

Programs that fall are started again by the supervisor, as in production; the servers come back
after the pause that the benchmark names.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from esp.stack.assets import ROOT
from esp.stack.errors import StackError
from esp.stack.machine import free_port
from esp.stack.servers import Servers
from esp.stack.supervisor import MARK, Program, Supervisor
from esp.stack.world import Ports, product_programs

_DELIVERY = ("worker-transactional", "worker-broadcast")
_START_SECONDS = 90.0


def run(arguments: Sequence[str], environment: Mapping[str, str], servers: Servers) -> int:
    """Run `manage.py bench crash …` and obey it; return its exit code."""
    directory = Path(environment["MAILWRIGHT_BENCH"])
    host = CrashHost(directory, environment, servers)
    child = subprocess.Popen(
        [sys.executable, str(ROOT / "manage.py"), *arguments],
        env={**host.environment, "MAILWRIGHT_PROCESS": "worker"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdin is not None
        for line in child.stdout:
            if line.startswith("!"):
                answer = host.obey(json.loads(line[1:]))
                child.stdin.write(json.dumps(answer) + "\n")
                child.stdin.flush()
            else:
                print(line, end="", flush=True)  # noqa: T201 (the benchmark's output)
        return child.wait()
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        host.stop()


class CrashHost:
    """Starts the product's programs and does to them, and to the servers, what it is told."""

    def __init__(self, directory: Path, environment: Mapping[str, str], servers: Servers) -> None:
        self._directory = directory
        self._servers = servers
        self._ports = Ports(web=free_port())
        self._programs: dict[str, Program] = {}
        self._supervisor = Supervisor(say=lambda _line: None, longest_pause=2.0)
        self._frozen: list[int] = []
        self.environment = {**environment, MARK: str(directory)}

    def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        """Do one command and return what came of it."""
        verbs: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "start": self._start,
            "freeze": self._freeze,
            "kill": self._kill,
            "terminate": self._terminate,
        }
        return verbs[command["do"]](command)

    def stop(self) -> None:
        """Stop every program."""
        self._supervisor.stop()

    def _start(self, command: dict[str, Any]) -> dict[str, Any]:
        """Start web, workers and scheduler with the environment of `command`, until they serve."""
        programs = product_programs(
            root=ROOT,
            logs=self._directory / "log",
            environment={**self.environment, **command["environment"]},
            ports=self._ports,
        )
        for program in programs:
            if program.name != "inbound":
                self._programs[program.name] = program
                self._supervisor.start(program)
        self._supervisor.watch()
        self._supervisor.wait_until(
            self._site_answers, part=self._programs["web"], seconds=_START_SECONDS
        )
        for name in _DELIVERY:
            program = self._programs[name]
            self._supervisor.wait_until(
                lambda log=program.log: _says_ready(log),  # type: ignore[misc]
                part=program,
                seconds=_START_SECONDS,
            )
        return {"site_url": self._ports.site_url, "logs": str(self._directory / "log")}

    def _site_answers(self) -> bool:
        try:
            with urllib.request.urlopen(self._ports.site_url + "/healthz", timeout=5):  # noqa: S310
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return error.code < 500
        except OSError:
            return False

    # -- kills -------------------------------------------------------------------------------

    def _victims(self, command: dict[str, Any]) -> list[int]:
        """Return the processes that a kill of this kind hits."""
        pids = {name: program.pid for name, program in self._programs.items()}
        match command["kind"]:
            case "worker":
                children = [
                    child for name in _DELIVERY if (pid := pids[name]) for child in children_of(pid)
                ]
                return [children[command["number"] % len(children)]] if children else []
            case "workers":
                roots = [pid for name, pid in pids.items() if name.startswith("worker-") and pid]
            case "web":
                roots = [pid for pid in (pids["web"],) if pid]
            case "scheduler":
                roots = [pid for pid in (pids["scheduler"],) if pid]
            case _:
                roots = []
        return [pid for root in roots for pid in (root, *children_of(root))]

    def _freeze(self, command: dict[str, Any]) -> dict[str, Any]:
        """Stop the victims' clocks, so that what is open at the kill can be counted exactly."""
        self._frozen = self._victims(command)
        _signal_all(self._frozen, signal.SIGSTOP)
        return {"victims": len(self._frozen)}

    def _kill(self, command: dict[str, Any]) -> dict[str, Any]:
        if command["kind"] == "valkey":
            self._servers.valkey.kill()
            time.sleep(command["pause"])
            self._servers.valkey.start()
        elif command["kind"] == "postgres":
            self._servers.postgres.kill()
            time.sleep(command["pause"])
            self._servers.postgres.start()
        else:
            _signal_all(self._frozen, signal.SIGKILL)
        return {"victims": len(self._frozen)}

    def _terminate(self, _command: dict[str, Any]) -> dict[str, Any]:
        """Deploy: ask every program to end, and let the supervisor start the new ones."""
        begun = time.monotonic()
        before = {
            name: program.pid for name, program in self._programs.items() if program.pid is not None
        }
        for name in before:
            self._programs[name].ask_to_stop()
        seconds: dict[str, float] = {}
        while len(seconds) < len(before):
            for name, pid in before.items():
                if name not in seconds and self._programs[name].pid != pid:
                    seconds[name] = round(time.monotonic() - begun, 2)
            if time.monotonic() - begun > _START_SECONDS:
                raise StackError(f"still running after SIGTERM: {before.keys() - seconds.keys()}")
            time.sleep(0.02)
        return {"seconds": seconds}


def _says_ready(log: Path) -> bool:
    return log.exists() and " ready." in log.read_text(errors="replace")


def children_of(parent: int) -> list[int]:
    """Return the processes whose parent, or parent's parent, is `parent`."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                # The name in brackets may hold anything, so the fields are counted from its end.
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it ended meanwhile
                continue
            parents[int(folder.name)] = int(fields[1])
    found = [pid for pid, its_parent in parents.items() if its_parent == parent]
    return found + [pid for pid, its_parent in parents.items() if its_parent in found]


def _signal_all(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
