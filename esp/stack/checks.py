"""`make check`: format, lint, shaping rules, import contracts, migrations, deploy checks, types."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from esp.stack.assets import ROOT
from esp.stack.servers import embedded_servers

# Rules about taste, those that take a component's declaration for an HTML tag, and H021: mails are
# styled inline because mail clients know little else.
_NOT_FOR_US = "H006,H015,H020,H021,H026,H030,H031,H043"


def main() -> int:
    """Run every check, all of them even if one fails; return 0 when all passed."""
    scripts = Path(sys.executable).parent
    with (
        tempfile.TemporaryDirectory(prefix="mailwright-check-") as folder,
        embedded_servers(Path(folder), fast=True) as servers,
    ):
        environment = {
            **os.environ,
            **servers.environment(),
            "MAILWRIGHT_PROCESS": "owner",
            "DATA_DIR": folder,
            "SECRET_KEY": secrets.token_urlsafe(64),
        }
        production = {**environment, "SITE_URL": "https://mail.example.com", "DEBUG": "0"}
        production = {**production, "MAILWRIGHT_PROCESS": "web", "DEMO": "0"}
        manage = [sys.executable, "manage.py"]
        results = [
            _check("format", [str(scripts / "ruff"), "format", "--check", "."], environment),
            _check("lint", [str(scripts / "ruff"), "check", "."], environment),
            _check("templates", _djlint(scripts), environment),
            # Each rule with a recorded reply that it decides, each site with a recorded MX.
            _check("shaping rules", [*manage, "check_shaping"], environment),
            _check("import contracts", [str(scripts / "lint-imports")], environment),
            _check(
                "missing migrations", [*manage, "makemigrations", "--check", "--dry-run"],
                environment,
            ),
            _check(
                "deploy checks", [*manage, "check", "--deploy", "--fail-level", "WARNING"],
                production,
            ),
            _check("types", [str(scripts / "mypy"), "."], environment),
        ]  # fmt: skip
    return 0 if all(results) else 1


def _djlint(scripts: Path) -> list[str]:
    return [
        str(scripts / "djlint"), "templates", "--lint", "--quiet", "--profile=django",
        f"--ignore={_NOT_FOR_US}", "--extension=html",
    ]  # fmt: skip


def _check(title: str, command: list[str], environment: Mapping[str, str]) -> bool:
    started = time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, env=dict(environment), capture_output=True, text=True, check=False
    )
    verdict = "ok" if done.returncode == 0 else "FAILED"
    print(f"{title:<20} {verdict:<7} {time.monotonic() - started:5.1f} s", flush=True)  # noqa: T201
    if done.returncode != 0:
        print((done.stdout + done.stderr).strip(), flush=True)  # noqa: T201
    return done.returncode == 0
