"""Starts the embedded PostgreSQL and Valkey before Django's settings are read.

`pytest` alone is enough: `-p tests.plugin_stack` stands in the configuration. With xdist only the
controller starts servers; its workers inherit their addresses, and each has a database of its own
in both and a data folder of its own. To test against other servers set
MAILWRIGHT_TEST_SERVERS=external and the addresses (OWNER_DATABASE_URL, ..., REDIS_URL).
"""

from __future__ import annotations

import atexit
import gc
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from esp.stack.assets import ROOT
from esp.stack.chromium import find_chromium
from esp.stack.errors import StackError
from esp.stack.postgres import stop_leftover
from esp.stack.servers import Servers, start_servers, stop_servers
from esp.stack.valkey import stop_leftover_valkey

_PREFIX = "mailwright-tests-"
_MARK = "MAILWRIGHT_TEST_SERVERS"
# With `--dist loadgroup` the tests of a group run in one process, one after the other: those of
# the browser share the running product, the others start a dozen processes each and measure times.
_GROUPS = {
    "tests/browser/": "browser",
    "tests/races/": "processes",
    "tests/sending/management/": "processes",
}


class _Stack:
    """The servers of this run, if this process is the one that started them."""

    def __init__(self) -> None:
        self.servers: Servers | None = None
        self.directory: Path | None = None
        self.starter = 0

    def start(self) -> None:
        _sweep_abandoned()
        self.directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self.starter = os.getpid()
        (self.directory / "starter").write_text(str(self.starter))
        atexit.register(self.stop)
        self.servers = start_servers(self.directory, fast=True)
        os.environ.update(
            self.servers.environment(),
            MAILWRIGHT_TESTING="1",
            MAILWRIGHT_PROCESS="owner",
            SECRET_KEY=secrets.token_urlsafe(50),
            DATA_DIR=str(self.directory / "data"),
        )
        os.environ[_MARK] = str(self.directory)

    def stop(self) -> None:
        if os.getpid() != self.starter:  # a forked child leaves the servers alone
            return
        servers, self.servers = self.servers, None
        directory, self.directory = self.directory, None
        if servers is not None:
            stop_servers(servers)
            os.environ.pop(_MARK, None)
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)


_stack = _Stack()


def _sweep_abandoned() -> None:
    """Stop servers of earlier runs that were killed before they could clean up."""
    for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            if directory.stat().st_uid != os.geteuid():
                continue
            os.kill(int((directory / "starter").read_text()), 0)
        except (ProcessLookupError, ValueError):
            stop_leftover(directory / "postgres")
            stop_leftover_valkey(directory)
            shutil.rmtree(directory, ignore_errors=True)
        except OSError:
            continue


def _keep_apart(worker: int) -> None:
    """Give one of several processes of this run its own part of Valkey and its own folder."""
    server, _, _ = os.environ["REDIS_URL"].rpartition("/")
    os.environ["REDIS_URL"] = f"{server}/{worker + 1}"
    os.environ["DATA_DIR"] = f"{os.environ['DATA_DIR']}-{worker}"


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    """A wrapper, because pytest-django reads the settings in this very hook."""
    options = early_config.known_args_namespace
    if _MARK not in os.environ and not (options.help or options.version):
        # Ended from outside (a CI's time limit) counts as Ctrl-C: the servers are stopped too.
        signal.signal(signal.SIGTERM, _interrupt)
        started = time.monotonic()
        try:
            _stack.start()
        except StackError as error:
            raise pytest.UsageError(str(error)) from error
        _stack_line[0] = f"embedded servers: started in {time.monotonic() - started:.1f} s"
    elif _MARK in os.environ and (name := os.environ.get("PYTEST_XDIST_WORKER")):
        _keep_apart(int(name.removeprefix("gw")))
    return (yield)


_stack_line = ["embedded servers: given by the environment"]


def pytest_report_header() -> str:
    return _stack_line[0]


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests into groups; skip those of the browser where there is none (not in CI)."""
    for item in items:
        folder = f"{item.path.relative_to(ROOT).parent.as_posix()}/"
        if group := _GROUPS.get(folder):
            item.add_marker(pytest.mark.xdist_group(group))
    of_browser = [item for item in items if item.get_closest_marker("browser")]
    if of_browser and not os.environ.get("CI") and find_chromium() is None:
        for item in of_browser:
            item.add_marker(pytest.mark.skip(reason="no Chromium on this machine"))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Let the collector of garbage pass over what stays to the end: modules and the tests."""
    gc.freeze()


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The browser program for the tests marked `browser`."""
    found = find_chromium()
    if found is None:
        pytest.fail("No Chromium: install the package chromium, or set MAILWRIGHT_CHROMIUM.")
    return found


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    _stack.stop()
