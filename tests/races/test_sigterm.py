"""A deploy: SIGTERM to a Celery worker with deliveries in flight loses and doubles nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from esp.celery import app
from esp.kit.valkey import client
from sending.dispatch import jobs
from sending.dispatch.worker import DeliveryWorker
from sending.messages.models import QueueEntry
from tests.sending.dispatch.conftest import World, simulator, worker, world
from tests.sending.dispatch.test_delivery import queue, run_until_empty, statuses

__all__ = ["simulator", "worker", "world"]  # fixtures of the dispatch tests


def _start_worker(log: Path) -> subprocess.Popen[bytes]:
    url = os.environ["OWNER_DATABASE_URL"]
    database = url.rpartition("/")[0] + "/" + str(connection.settings_dict["NAME"])
    environment = {
        **os.environ,
        "OWNER_DATABASE_URL": database,
        "SMTP_PORT": str(settings.SMTP_PORT),
        "DNS_RESOLVERS": ",".join(settings.DNS_RESOLVERS),
    }
    command = [
        sys.executable, "-m", "celery", "-A", "esp.celery", "worker", "-Q", "broadcast",
        "-c", "2", "-n", f"sigterm{os.getpid()}@%h", "-l", "INFO",
        "--without-gossip", "--without-mingle",
    ]  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=settings.ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
    end = time.monotonic() + 60
    while " ready." not in log.read_text(errors="replace"):
        assert process.poll() is None, log.read_text(errors="replace")
        assert time.monotonic() < end, log.read_text(errors="replace")
        time.sleep(0.05)
    return process


@pytest.mark.timeout(180)
def test_a_worker_that_is_told_to_end_does_so_within_ten_seconds_and_doubles_nothing(
    world: World, worker: DeliveryWorker, tmp_path: Path
) -> None:
    recipients = [f"ada{n}@slowmail.test" for n in range(60)]
    recipients += [f"ada{n}@plainmail.test" for n in range(20)]
    batch = queue(world, recipients)
    client().delete("broadcast")
    log = tmp_path / "worker.log"
    process = _start_worker(log)
    try:
        for _ in range(2):
            app.send_task(jobs.DELIVER_BROADCAST)
        end = time.monotonic() + 30
        while "delivered" not in statuses(batch).values() and time.monotonic() < end:
            time.sleep(0.02)
        leased = QueueEntry.objects.exclude(worker="").count()
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        seconds = time.monotonic() - begun
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    told = log.read_text(errors="replace")[-2000:]
    assert leased > 0, f"the worker had nothing in hand: nothing is shown\n{told}"
    assert seconds < 10, told
    # Whatever it did not send is due at once for others.
    assert not QueueEntry.objects.exclude(worker="").exists(), told
    left = QueueEntry.objects.filter(attempts=0)
    assert left.exists(), "everything was sent before the signal: nothing is shown"
    assert not left.filter(hold="", due_at__gt=timezone.now()).exists()
    run_until_empty(worker, batch, seconds=60.0)
    assert set(statuses(batch).values()) == {"delivered"}
    copies = Counter(fact.recipient for fact in world.client.ledger(kinds=["delivered"]))
    assert copies == Counter(recipients)
