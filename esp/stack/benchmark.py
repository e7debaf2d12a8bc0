"""Benchmarks on servers of their own: started on free ports, durable, gone afterwards.

`manage.py bench` comes here first. The command itself runs as a child with the addresses in its
environment; whatever the caller's environment says of databases is not used, so that a benchmark
never meets an installation with real mail in its queue.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from esp.stack import crash
from esp.stack.assets import ROOT
from esp.stack.errors import StackError
from esp.stack.machine import require_space
from esp.stack.servers import embedded_servers

MARK = "MAILWRIGHT_BENCH"
_MEGABYTES_NEEDED = 2000
# An installation's own settings would make every machine measure something else.
_FROM_OUTSIDE = ("MAILWRIGHT_", "DJANGO_", "DATABASE_URL", "DEBUG", "DEMO", "DELIVERY_", "LOG_")


def needs_servers(arguments: Sequence[str]) -> bool:
    """Tell whether this command line is a benchmark that has no servers yet."""
    is_help = "-h" in arguments or "--help" in arguments
    return list(arguments[1:2]) == ["bench"] and MARK not in os.environ and not is_help


def run(arguments: Sequence[str]) -> int:
    """Run `manage.py bench …` on servers of its own; return its exit code, 130 after Ctrl-C."""
    directory = Path(tempfile.mkdtemp(prefix="mailwright-bench-"))
    try:
        with _terminated_as_interrupted():
            require_space(directory, megabytes=_MEGABYTES_NEEDED)
            with embedded_servers(directory, fast=False) as servers:
                environment = _environment(directory, servers.environment())
                _manage(
                    ["migrate", "--skip-checks", "--verbosity", "0"], environment, process="owner"
                )
                if list(arguments[2:3]) == ["crash"]:
                    return crash.run(arguments[1:], environment, servers)
                return _manage(list(arguments[1:]), environment, process="worker")
    except StackError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _environment(directory: Path, servers: dict[str, str]) -> dict[str, str]:
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(_FROM_OUTSIDE)
    }
    kept = {name: value for name, value in os.environ.items() if name in _PROGRAMS}
    return inherited | kept | servers | {
        MARK: str(directory),
        "SECRET_KEY": secrets.token_urlsafe(50),
        "SITE_URL": "https://mailwright.test",
        "PRODUCT_DOMAIN": "mailwright.test",
        "ALLOW_PRIVATE_MX": "true",
        "RETRY_PROFILE": "rehearsal",
        "LOG_LEVEL": "WARNING",
        "DATA_DIR": str(directory / "data"),
        "PYTHONUNBUFFERED": "1",
    }  # fmt: skip


_PROGRAMS = ("MAILWRIGHT_PG_BIN", "MAILWRIGHT_VALKEY")


def _manage(arguments: list[str], environment: dict[str, str], *, process: str) -> int:
    """Run a management command; raises StackError for a failed migration, KeyboardInterrupt."""
    child = subprocess.Popen(
        [sys.executable, str(ROOT / "manage.py"), *arguments],
        env=environment | {"MAILWRIGHT_PROCESS": process},
        # A session of its own: Ctrl-C reaches this process, which lets the child clean up first.
        start_new_session=True,
    )
    try:
        code = child.wait()
    except KeyboardInterrupt:
        _end(child)
        raise
    if code != 0 and arguments[0] == "migrate":
        raise StackError(f"The benchmark's database could not be made (code {code}): see above.")
    return code


def _end(child: subprocess.Popen[bytes]) -> None:
    """Let the child end by itself after an interrupt, then end its whole group."""
    child.send_signal(signal.SIGINT)
    try:
        child.wait(10)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM (a CI's time limit) clean up as Ctrl-C does."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
