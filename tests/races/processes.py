"""Processes of the product beside the test's own, on its database and in its simulated internet."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings
from django.db import connection

from esp.stack.assets import ROOT

_CELERY = """
import sys
from esp.celery import app
{before}
app.worker_main(["worker", *sys.argv[1:], "-l", "INFO", "--without-gossip", "--without-mingle"])
"""


def environment() -> dict[str, str]:
    """Return what a process needs to meet the test's database, SMTP port and name servers."""
    parts = urlsplit(os.environ["OWNER_DATABASE_URL"])
    url = urlunsplit(parts._replace(path=f"/{connection.settings_dict['NAME']}"))
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "esp.settings",
        "OWNER_DATABASE_URL": url,
        "DATABASE_URL": url,
        "WORKER_DATABASE_URL": url,
        "SMTP_PORT": str(settings.SMTP_PORT),
        "DNS_RESOLVERS": ",".join(settings.DNS_RESOLVERS),
    }


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    """Run a text of Python; its output is piped, its errors stand in the test's report."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )


def start_celery(
    log: Path, *, queue: str, processes: int = 1, before: str = ""
) -> subprocess.Popen[bytes]:
    """Start a Celery worker and wait until it is ready; it does `before` before it is one."""
    command = [
        sys.executable, "-c", _CELERY.format(before=before), "-Q", queue,
        "-c", str(processes), "-n", f"{queue}{os.getpid()}@%h",
    ]  # fmt: skip
    with log.open("wb") as out:
        worker = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=out, stderr=subprocess.STDOUT
        )
    end = time.monotonic() + 110
    while " ready." not in log.read_text(errors="replace"):
        assert worker.poll() is None, log.read_text(errors="replace")
        assert time.monotonic() < end, log.read_text(errors="replace")
        time.sleep(0.05)
    return worker


def seconds_to_end(worker: subprocess.Popen[bytes], number: int) -> float:
    """Send it the signal and return how long it took to end; it is killed after 30 seconds."""
    begun = time.monotonic()
    try:
        worker.send_signal(number)
        worker.wait(30)
    finally:
        kill(worker)
    return time.monotonic() - begun


def kill(process: subprocess.Popen[bytes]) -> None:
    """End it, if it has not ended."""
    if process.poll() is None:
        process.kill()
        process.wait()
