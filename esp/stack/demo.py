"""`make demo`: everything on one machine, a campaign before your eyes, then a site to play with."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from esp.stack.assets import ROOT, build_assets
from esp.stack.errors import StackError
from esp.stack.machine import LOOPBACK, require_space
from esp.stack.servers import embedded_servers
from esp.stack.supervisor import Supervisor, stop_marked
from esp.stack.world import (
    Ports,
    demo_environment,
    demo_values,
    product_programs,
    simulator_program,
    write_embedded_env,
)

_MEGABYTES_NEEDED = 1000


class Stopped(Exception):
    """Ctrl-C or SIGTERM came before the demo had finished what it was doing."""


class Demo:
    """One run of the demo. `once` leaves after the campaign; see `run`."""

    def __init__(self, *, contacts: int, ports: Ports, once: bool, rehearse: bool = True) -> None:
        self.contacts = contacts
        self.ports = ports
        self.once = once
        self.rehearse = rehearse
        self.var = ROOT / "var"
        self.logs = self.var / "log"
        self.started_at = float(os.environ.get("DEMO_STARTED_AT") or time.time())
        self.stopping = threading.Event()
        self._current: subprocess.Popen[str] | None = None

    def run(self) -> int:
        """Run it all and return the exit code.

        0: every recipient reached a final state that agrees with the simulated mailboxes (or
        Ctrl-C ended a demo whose campaign was through); 1: something is wrong; 130: Ctrl-C came
        before.
        """
        self.var.mkdir(exist_ok=True)
        with self._only_one(), self._signals(), ThreadPoolExecutor(1) as pool:
            require_space(self.var, megabytes=_MEGABYTES_NEEDED)
            stop_marked(str(self.var))
            self.ports.require_free()
            # The style sheet needs npm and no database; the database needs no npm.
            assets = pool.submit(build_assets)
            try:
                with embedded_servers(self.var, fast=False) as servers:
                    supervisor = Supervisor(say=_say)
                    supervisor.add_running(servers.postgres)
                    supervisor.add_running(servers.valkey)
                    try:
                        return self._with_servers(
                            supervisor, servers.environment(), lambda: bool(assets.result())
                        )
                    finally:
                        (self.var / "embedded.env").unlink(missing_ok=True)
                        supervisor.stop()
            except Stopped:
                return 130

    # -- the steps ---------------------------------------------------------------------------

    def _with_servers(
        self, supervisor: Supervisor, servers: dict[str, str], assets: Callable[[], bool]
    ) -> int:
        environment = demo_environment(
            var=self.var, ports=self.ports, servers=servers, started_at=self.started_at
        )
        owner = {**environment, "MAILWRIGHT_PROCESS": "owner"}
        write_embedded_env(
            self.var / "embedded.env",
            demo_values(var=self.var, ports=self.ports, servers=servers),
        )
        simulator = simulator_program(
            root=ROOT, logs=self.logs, environment=environment, ports=self.ports
        )
        supervisor.start(simulator)
        supervisor.watch()
        _say("Preparing the database ...")
        self._manage(["migrate", "--skip-checks", "--verbosity", "0"], owner)
        supervisor.wait_until(
            self._simulator_answers, part=simulator, cancelled=self.stopping.is_set
        )
        seeded = _last_json(self._manage(["seed_demo"], owner))
        assets()
        _say("Starting the site, the workers and the scheduler ...")
        programs = product_programs(
            root=ROOT, logs=self.logs, environment=environment, ports=self.ports
        )
        for program in programs:
            self._check()
            supervisor.start(program)
        supervisor.wait_until(
            self._site_answers, part=programs[0], seconds=90, cancelled=self.stopping.is_set
        )
        self._check()
        code, result = self._rehearse({**environment, "MAILWRIGHT_PROCESS": "worker"})
        if self.once:
            print(json.dumps(result), flush=True)  # noqa: T201
            return code
        self._invite(seeded, result)
        self.stopping.wait()
        _say("Stopping ...")
        return code

    def _rehearse(self, environment: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if not self.rehearse:
            return 0, {}
        command = ["rehearse", "--contacts", str(self.contacts), "--json"]
        code, said = self._run(command, environment)
        result = _last_json(said)
        first = result.pop("first_delivery_at", None)
        if first is not None:
            result["seconds_from_start_to_first_delivery"] = round(first - self.started_at, 2)
        if code != 0 and not result:
            raise StackError(f"The campaign could not be run (code {code}): see {self.logs}.")
        return code, result

    def _manage(self, arguments: list[str], environment: dict[str, str]) -> str:
        code, said = self._run(arguments, environment)
        if code != 0:
            raise StackError(f"`manage.py {arguments[0]}` failed with code {code}: see above.")
        return said

    def _run(self, arguments: list[str], environment: dict[str, str]) -> tuple[int, str]:
        """Run a management command; its stderr (progress) is shown, its stdout is returned."""
        self._check()
        command = [sys.executable, "manage.py", *arguments]
        # A session of its own, so that Ctrl-C reaches this process alone, which passes it on.
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True,
            start_new_session=True,
        ) as self._current:  # fmt: skip
            said = self._current.communicate()[0]
            code = self._current.returncode
        self._current = None
        self._check()
        return code, said

    def _invite(self, seeded: dict[str, Any], result: dict[str, Any]) -> None:
        lines = ["", f"Mailwright is at {self.ports.site_url}"]
        for sign_in in seeded.get("sign_ins", []):
            who = ", ".join(str(sign_in[part]) for part in ("tenant", "role") if sign_in.get(part))
            lines.append(f"  {sign_in['email']:<28} {sign_in['password']:<20} {who}")
        if result:
            lines.append("The campaign: " + json.dumps(result))
        lines += [f"Logs are in {self.logs}; Ctrl-C ends everything and keeps the data.", ""]
        _say("\n".join(lines))

    # -- watching ----------------------------------------------------------------------------

    def _simulator_answers(self) -> bool:
        for port in (self.ports.simulator, self.ports.dns):
            try:
                socket.create_connection((LOOPBACK, port), timeout=1).close()
            except OSError:
                return False
        return True

    def _site_answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.ports.site_url + "/healthz", timeout=5):  # noqa: S310
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return error.code < 500
        except OSError:
            return False

    def _check(self) -> None:
        if self.stopping.is_set():
            raise Stopped

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def end(_number: int, _frame: object) -> None:
            self.stopping.set()
            current = self._current
            if current is not None and current.poll() is None:
                current.send_signal(signal.SIGINT)

        before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def _only_one(self) -> Iterator[None]:
        with open(self.var / ".demo.lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StackError(
                    "A demo is running from this checkout already: end it with Ctrl-C in its "
                    "terminal first."
                ) from None
            yield


def _last_json(said: str) -> dict[str, Any]:
    """Return the JSON object on the last line of `said`; lines before it are shown."""
    lines = said.strip().splitlines()
    result: dict[str, Any] = {}
    if lines:
        with contextlib.suppress(ValueError):
            loaded = json.loads(lines[-1])
            if isinstance(loaded, dict):
                result = loaded
                lines.pop()
    for line in lines:
        _say(line)
    return result


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `python -m esp.stack demo`."""
    ports = Ports()
    parser.add_argument("--once", action="store_true", help="run the campaign, then end")
    parser.add_argument("--contacts", type=int, default=2000, help="recipients of the campaign")
    parser.add_argument("--port", type=int, default=ports.web, help="port of the web site")
    parser.add_argument("--smtp-port", type=int, default=ports.smtp)
    parser.add_argument("--dns-port", type=int, default=ports.dns)
    parser.add_argument("--simulator-port", type=int, default=ports.simulator)
    parser.add_argument("--no-campaign", action="store_true", help="start everything, send nothing")


def main(options: argparse.Namespace) -> int:
    """Run the demo as the command line asks. Raises `StackError`."""
    ports = Ports(
        web=options.port,
        smtp=options.smtp_port,
        dns=options.dns_port,
        simulator=options.simulator_port,
    )
    return Demo(
        contacts=options.contacts,
        ports=ports,
        once=options.once,
        rehearse=not options.no_campaign,
    ).run()
