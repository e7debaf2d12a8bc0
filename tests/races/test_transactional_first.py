"""Transactional mail does not wait behind a campaign: it has a queue and workers of its own."""

from __future__ import annotations

import threading
import time

from django.utils import timezone

from sending.dispatch.worker import DeliveryWorker
from sending.messages.models import Message, QueueEntry
from tests import make
from tests.sending.dispatch.conftest import World, simulator, world
from tests.sending.dispatch.test_delivery import make_content, queue

__all__ = ["simulator", "world"]  # fixtures of the dispatch tests


def test_a_receipt_leaves_while_a_campaign_fills_its_queue(world: World) -> None:
    campaign = queue(world, [f"reader{n}@slowmail.test" for n in range(60)])
    broadcast = DeliveryWorker("broadcast")
    running = threading.Thread(target=broadcast.run_slice, kwargs={"seconds": 6.0})
    running.start()
    transactional = DeliveryWorker("transactional")
    try:
        while not QueueEntry.objects.exclude(worker="").exists():
            time.sleep(0.02)
        batch = make.batch(world.cast.acme, kind="api", stream="transactional")
        message = make.message(batch, make_content(world), "receipt@plainmail.test")
        QueueEntry.objects.create(
            message_id=message.pk,
            tenant_id=batch.tenant_id,
            batch_id=batch.pk,
            domain="plainmail.test",
            due_at=timezone.now(),
            expires_at=message.expires_at,
        )
        summary = transactional.run_slice(seconds=5.0)
        assert summary.delivered == 1
        assert Message.unscoped.get(pk=message.pk).status == "delivered"
        assert QueueEntry.objects.filter(batch_id=campaign.pk).exists(), "nothing was ahead of it"
    finally:
        running.join()
        broadcast.close()
        transactional.close()
