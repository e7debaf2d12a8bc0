"""`python -m esp.stack`: demo, assets, check, test, format, clean, roles-sql."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from esp.stack import checks, demo
from esp.stack.assets import ROOT, build_assets
from esp.stack.chromium import ensure_chromium
from esp.stack.errors import StackError
from esp.stack.postgres import ROLES_SQL, stop_leftover
from esp.stack.supervisor import stop_marked
from esp.stack.valkey import stop_leftover_valkey

_MOST_PROCESSES = 6


def main(arguments: list[str]) -> int:
    """Do what the command line asks; a `StackError` becomes one sentence and exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m esp.stack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    demo.add_arguments(commands.add_parser("demo", help="everything on this machine"))
    for name, text in (
        ("assets", "install the front-end packages and build the style sheet"),
        ("check", "format, lint, types, import contracts, migrations, deploy checks"),
        ("clean", "forget the demo's data"),
        ("roles-sql", "print the SQL that makes the database's roles"),
    ):
        commands.add_parser(name, help=text)
    commands.add_parser("test", help="run the tests; what follows goes to pytest", add_help=False)
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command != "test":
        parser.error(f"unknown arguments: {' '.join(rest)}")
    try:
        return _run(options, rest)
    except StackError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 130


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    match options.command:
        case "demo":
            return demo.main(options)
        case "assets":
            if not build_assets():
                print("The front end is up to date.")  # noqa: T201
        case "check":
            return checks.main()
        case "test":
            return _test(rest)
        case "clean":
            _clean()
        case "roles-sql":
            print(ROLES_SQL.read_text(), end="")  # noqa: T201
    return 0


def _test(arguments: list[str]) -> int:
    build_assets()
    environment = dict(os.environ)
    chromium = ensure_chromium()
    if chromium:
        environment["MAILWRIGHT_CHROMIUM"] = chromium
    elif environment.get("CI"):
        raise StackError(
            "The browser tests must run here (CI is set) and no Chromium could be installed: "
            "install the package chromium."
        )
    else:
        print("No Chromium could be installed: the browser tests are skipped.")  # noqa: T201
    command = [sys.executable, "-m", "pytest", *_in_parallel(arguments), *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def _in_parallel(arguments: Sequence[str]) -> list[str]:
    """Return pytest's options for a run of all tests; a choice of tests runs in one process.

    One process more than there are cores, because the tests wait much: for leases to end, servers
    to start, a limit's next second. Each has a database of its own in both servers, and Valkey has
    but sixteen, half of which are the browser tests'.
    """
    if any(not argument.startswith("--durations") for argument in arguments):
        return []
    processes = min((os.cpu_count() or 1) + 1, _MOST_PROCESSES)
    return ["-n", str(processes), "--dist", "loadgroup"]


def _clean() -> None:
    var = ROOT / "var"
    stop_marked(str(var))
    stop_leftover(var / "postgres")
    stop_leftover_valkey(var)
    shutil.rmtree(var, ignore_errors=True)
    if var.exists():
        raise StackError(f"{var} could not be removed: remove it by hand as the user who owns it.")
    print("The demo's data is gone.")  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
