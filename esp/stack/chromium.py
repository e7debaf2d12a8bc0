"""The Chromium that the browser tests drive: found, or installed where that is possible."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str | None:
    """Return a Chromium that starts: `MAILWRIGHT_CHROMIUM`, the system's, or Playwright's own."""
    chosen = os.environ.get("MAILWRIGHT_CHROMIUM")
    candidates = [chosen] if chosen else [found for name in _NAMES if (found := shutil.which(name))]
    if not chosen:
        downloads = Path.home() / ".cache" / "ms-playwright"
        candidates += [str(path) for path in sorted(downloads.glob("chromium-*/*/chrome"))]
    return next((program for program in candidates if _starts(program)), None)


def ensure_chromium() -> str | None:
    """Return a Chromium, installing one if there is none and this user can; else None."""
    found = find_chromium()
    if found:
        return found
    print("No Chromium on this machine: trying to install one ...", flush=True)  # noqa: T201
    _install_by_apt()
    found = find_chromium()
    if found:
        return found
    command = [sys.executable, "-m", "playwright", "install", "--with-deps", "chromium"]
    if os.geteuid() != 0:
        command.remove("--with-deps")  # it would ask for a password
    _quietly(command)
    return find_chromium()


def _install_by_apt() -> None:
    if not shutil.which("apt-get"):
        return
    prefix: list[str] = []
    if os.geteuid() != 0:
        if not shutil.which("sudo") or not _quietly(["sudo", "-n", "true"]):
            return
        prefix = ["sudo", "-n"]
    install = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y",
               "--no-install-recommends", "chromium"]  # fmt: skip
    if not _quietly(install):
        _quietly([*prefix, "apt-get", "update"])
        _quietly(install)


def _starts(program: str) -> bool:
    try:
        asked = subprocess.run(
            [program, "--version"], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return asked.returncode == 0 and "hrom" in asked.stdout


def _quietly(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
