"""A deploy: SIGTERM to a Celery worker with deliveries in flight loses and doubles nothing."""

from __future__ import annotations

import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from django.utils import timezone

from esp.celery import app
from esp.kit.valkey import client
from sending.dispatch import jobs
from sending.dispatch.worker import DeliveryWorker
from sending.messages.models import QueueEntry
from tests.races import processes
from tests.sending.dispatch.conftest import World, simulator, worker, world
from tests.sending.dispatch.test_delivery import queue, run_until_empty, statuses

__all__ = ["simulator", "worker", "world"]  # fixtures of the dispatch tests


@pytest.mark.timeout(280)
def test_a_worker_that_is_told_to_end_does_so_within_ten_seconds_and_doubles_nothing(
    world: World, worker: DeliveryWorker, tmp_path: Path
) -> None:
    recipients = [f"ada{n}@slowmail.test" for n in range(60)]
    recipients += [f"ada{n}@plainmail.test" for n in range(20)]
    batch = queue(world, recipients)
    client().delete("broadcast")
    log = tmp_path / "worker.log"
    deploys = processes.start_celery(log, queue="broadcast", processes=2)
    try:
        for _ in range(2):
            app.send_task(jobs.DELIVER_BROADCAST)
        end = time.monotonic() + 30
        while "delivered" not in statuses(batch).values() and time.monotonic() < end:
            time.sleep(0.02)
        leased = QueueEntry.objects.exclude(worker="").count()
        seconds = processes.seconds_to_end(deploys, signal.SIGTERM)
    finally:
        processes.kill(deploys)
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
