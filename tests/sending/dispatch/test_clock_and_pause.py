"""Workers go by the database's clock, and claim nothing while our own name servers are silent."""

from __future__ import annotations

import datetime as dt
import time

import pytest
from django.conf import settings
from django.db import connection

from esp.kit import pauses
from esp.lib.clock import AnchoredClock, SystemClock
from sending.dispatch.worker import DeliveryWorker
from sending.messages.models import QueueEntry
from tests.sending.dispatch.conftest import World
from tests.sending.dispatch.test_delivery import queue, run_until_empty, statuses


def test_an_anchored_clock_does_not_follow_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = AnchoredClock()
    anchor = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
    clock.anchor(anchor)
    monkeypatch.setattr(SystemClock, "now", lambda self: dt.datetime(2035, 1, 1, tzinfo=dt.UTC))
    assert dt.timedelta() <= clock.now() - anchor < dt.timedelta(seconds=1)
    with pytest.raises(ValueError, match="aware"):
        clock.anchor(dt.datetime(2026, 5, 1))  # noqa: DTZ001 (that is the point)


@pytest.mark.parametrize("hours", [-30, 30])
def test_a_worker_with_a_wrong_clock_neither_steals_nor_stretches_leases(
    world: World, worker: DeliveryWorker, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    batch = queue(world, ["ada@plainmail.test", "bo@plainmail.test"])
    held = QueueEntry.objects.order_by("message_id").first()
    assert held is not None
    lease_end = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=60)
    QueueEntry.objects.filter(pk=held.pk).update(worker="another:1:x", due_at=lease_end)
    shifted = dt.timedelta(hours=hours)
    monkeypatch.setattr(SystemClock, "now", lambda self: dt.datetime.now(dt.UTC) + shifted)
    worker.run_slice(seconds=2.0)
    entry = QueueEntry.objects.get(pk=held.pk)
    assert (entry.worker, entry.due_at) == ("another:1:x", lease_end)
    assert sorted(statuses(batch).values()) == ["delivered", "queued"]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM sending_message WHERE abs(extract(epoch FROM final_at - now())) "
            "< %s",
            [settings.DELIVERY_LEASE_SECONDS],
        )
        assert cursor.fetchone()[0] == 1


def test_no_try_is_burnt_while_our_name_servers_are_silent(
    world: World, worker: DeliveryWorker
) -> None:
    batch = queue(world, ["ada@plainmail.test"])
    pauses.pause_claims("dns", seconds=30)
    time.sleep(1.1)
    worker.run_slice(seconds=1.0)
    assert QueueEntry.objects.get().attempts == 0
    assert list(world.client.ledger(kinds=["delivered"])) == []
    pauses.resume_claims("dns")
    time.sleep(1.1)
    run_until_empty(worker, batch)
    assert set(statuses(batch).values()) == {"delivered"}
