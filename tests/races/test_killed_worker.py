"""A delivery worker that is killed in the middle of its work loses nothing."""

from __future__ import annotations

import os
import signal
import time

from sending.dispatch.worker import DeliveryWorker
from sending.messages.models import Message, QueueEntry
from tests.races import processes
from tests.sending.dispatch.conftest import World, simulator, worker, world
from tests.sending.dispatch.test_delivery import queue, run_until_empty, statuses

__all__ = ["simulator", "worker", "world"]  # fixtures of the dispatch tests

_LEASE_SECONDS = 4

_VICTIM = f"""
import django
django.setup()
from django.conf import settings
settings.DELIVERY_LEASE_SECONDS = {_LEASE_SECONDS}
from sending.dispatch.worker import DeliveryWorker
worker = DeliveryWorker("broadcast")
print("ready", flush=True)
while True:
    worker.run_slice(seconds=5.0)
"""


def test_a_killed_worker_loses_no_message_and_doubles_only_open_transactions(
    world: World, worker: DeliveryWorker
) -> None:
    recipients = [f"ada{n}@slowmail.test" for n in range(20)]
    recipients += [f"ada{n}@plainmail.test" for n in range(20)]
    batch = queue(world, recipients)
    victim = processes.start(_VICTIM)
    try:
        assert victim.stdout is not None
        assert victim.stdout.readline().strip() == "ready"
        # Killed once some messages are with the slow provider and some are through.
        end = time.monotonic() + 20
        while QueueEntry.objects.filter(worker="").exists() and time.monotonic() < end:
            time.sleep(0.02)
        leased = QueueEntry.objects.exclude(worker="").count()
    finally:
        os.kill(victim.pid, signal.SIGKILL)
        victim.communicate()
    assert leased > 0, "the worker was killed after its work: nothing is shown"
    run_until_empty(worker, batch, seconds=_LEASE_SECONDS + 30.0)
    assert set(statuses(batch).values()) == {"delivered"}
    copies: dict[str, list[str]] = {}
    for fact in world.client.ledger(kinds=["delivered"]):
        copies.setdefault(fact.recipient, []).append(fact.message_id)
    assert set(copies) == set(recipients)
    # A second copy comes only from a transaction that was open at the kill, under the same id.
    assert all(len(set(ids)) == 1 for ids in copies.values())
    assert sum(len(ids) for ids in copies.values()) - len(recipients) <= leased
    assert not Message.unscoped.filter(batch=batch).exclude(status="delivered").exists()
