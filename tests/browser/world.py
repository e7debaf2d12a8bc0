"""The whole product for the browser tests, as `make demo` runs it: processes, ports, a database.

PostgreSQL and Valkey are those of the test run; the database in them is of this world alone, and so
is everything else. What a test needs beyond pages (the simulated mailboxes, management commands)
it reaches through `World`.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlparse, urlunparse

import psycopg
import pytest
from psycopg import sql

from esp.simulator.client import MessageSummary, SimulatorClient, StoredMessage
from esp.stack.assets import ROOT, build_assets
from esp.stack.machine import free_port
from esp.stack.supervisor import Program, stop_marked
from esp.stack.world import INBOUND_HOST, Ports, demo_environment, product_programs

T = TypeVar("T")

PASSWORD = "seven-brave-otters"
ALICE, BOB, CHARLIE = "alice@plainmail.test", "bob@plainmail.test", "charlie@plainmail.test"
OLGA = "olga@plainmail.test"
_TEST_SETTINGS = ("MAILWRIGHT_TESTING", "MAILWRIGHT_TEST_SERVERS", "TENANCY_REQUEST_ROLE")
_START_SECONDS = 60.0


class World:
    """Everything that runs; `start` and `stop` it. Raises AssertionError with the log's end."""

    def __init__(self, var: Path) -> None:
        self.var = var
        self.logs = var / "log"
        self.database = f"browser_{secrets.token_hex(4)}"
        self.programs: list[Program] = []
        self.environment: dict[str, str] = {}
        self.site = ""
        self.simulator = SimulatorClient("")

    # -- life --------------------------------------------------------------------------------

    def start(self) -> None:
        """Make the database, fill it as the demo does, and start every program."""
        build_assets(quiet=True)
        self.logs.mkdir(parents=True)
        web = free_port()
        addresses = self._start_simulator(web)
        ports = Ports(
            web=web,
            smtp=int(addresses["smtp_port"]),
            dns=int(addresses["dns"].rpartition(":")[2]),
            simulator=urlparse(addresses["http"]).port or 0,
        )
        self.site = ports.site_url
        self.simulator = SimulatorClient(ports.simulator_url)
        self._owner(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.database)))
        self.environment = _without_test_settings(
            demo_environment(var=self.var, ports=ports, servers=self._servers(), started_at=0)
        )
        self.manage("migrate", "--skip-checks", "--verbosity", "0", process="owner")
        self.manage("seed_demo", process="owner")
        for program in product_programs(
            root=ROOT, logs=self.logs, environment=self.environment, ports=ports
        ):
            self._start(program)
        self.until("the site answers", self._answers, seconds=_START_SECONDS)

    def stop(self) -> None:
        """Stop every program, whatever became of it, and drop the database."""
        for program in reversed(self.programs):
            program.ask_to_stop()
        for program in reversed(self.programs):
            program.stop()
        self.programs.clear()
        stop_marked(str(self.var))
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        self._owner(drop.format(sql.Identifier(self.database)))

    def _start(self, program: Program) -> None:
        program.start()
        self.programs.append(program)

    def _start_simulator(self, web: int) -> dict[str, Any]:
        command = [
            sys.executable, "-m", "esp.simulator", "--profile", "test",
            "--data", str(self.var / "simulator"), "--mx-of-product", INBOUND_HOST,
            "--site-url", f"http://127.0.0.1:{web}",
            "--feedback-address", "fbl@bounces.mailwright.test",
        ]  # fmt: skip
        settings = {**os.environ, "MAILWRIGHT_STACK": str(self.var), "PYTHONUNBUFFERED": "1"}
        simulator = Program(
            name="simulator", command=command, environment=settings, folder=ROOT, logs=self.logs
        )
        self._start(simulator)
        found: dict[str, Any] = json.loads(
            self.until("the simulator listens", lambda: _ready_line(simulator.log))
        )
        return found

    def _servers(self) -> dict[str, str]:
        names = ("DATABASE_URL", "WORKER_DATABASE_URL", "OWNER_DATABASE_URL")
        servers = {name: _other_path(os.environ[name], self.database) for name in names}
        # A database of its own in Valkey too: the workers here must not see other tests' jobs.
        number = 8 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
        return {**servers, "REDIS_URL": _other_path(os.environ["REDIS_URL"], str(number))}

    @staticmethod
    def _owner(statement: sql.Composed) -> None:
        with psycopg.connect(os.environ["OWNER_DATABASE_URL"], autocommit=True) as connection:
            connection.execute(statement)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.site}/healthz", timeout=5):
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False

    # -- for the tests -----------------------------------------------------------------------

    def manage(self, *arguments: str, process: str = "worker") -> str:
        """Run a management command and return what it printed."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env={**self.environment, "MAILWRIGHT_PROCESS": process},
            capture_output=True,
            text=True,
            check=False,
            timeout=150,
        )
        assert done.returncode == 0, f"{arguments[0]}: {done.stderr[-2000:]}"
        return done.stdout

    def until(self, what: str, found: Callable[[], T | None], *, seconds: float = 30.0) -> T:
        """Return what `found` returns as soon as it is true; fail with the logs' ends."""
        deadline = time.monotonic() + seconds
        while not (result := found()):
            fallen = [program.name for program in self.programs if not program.is_running()]
            if fallen or time.monotonic() > deadline:
                pytest.fail(f"Waiting until {what}. Fallen: {fallen}.\n{self.last_words()}")
            time.sleep(0.1)
        return result

    def last_words(self) -> str:
        """Return the ends of all logs, for a failure's text."""
        return "\n".join(f"== {p.name}\n{p.last_lines(12)}" for p in self.programs)

    def mail_to(self, address: str, *, subject: str, seconds: float = 30.0) -> StoredMessage:
        """Wait for the newest mail in a simulated mailbox whose subject has `subject` in it."""

        def newest() -> MessageSummary | None:
            mails = self.simulator.messages(address)
            return next((mail for mail in mails if subject in mail.subject), None)

        found = self.until(f"“{subject}” reaches {address}", newest, seconds=seconds)
        return self.simulator.message(found.id)

    def link_in(self, mail: StoredMessage, path: str) -> str:
        """Return the link of a mail (its text part) that leads to `path` on this site."""
        found = re.search(rf"https?://[^\s<>\"]*{re.escape(path)}[^\s<>\"]*", mail.text or "")
        assert found, f"no link to {path} in: {mail.text}"
        return found.group().rstrip(").,")

    def here(self, link: str) -> str:
        """Return the link with this machine's address for the tracking domain's name.

        The domain's name resolves in the simulated DNS only, which the browser does not ask.
        """
        parts = urlparse(link)
        return urlunparse(parts._replace(scheme="http", netloc=urlparse(self.site).netloc))


def _without_test_settings(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in _TEST_SETTINGS}


def _other_path(url: str, path: str) -> str:
    return urlunparse(urlparse(url)._replace(path=f"/{path}"))


def _ready_line(log: Path) -> str | None:
    lines = log.read_text().splitlines() if log.exists() else []
    return next((line for line in lines if line.startswith("{")), None)
