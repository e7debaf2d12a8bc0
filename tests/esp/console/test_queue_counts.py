"""What the lanes' pages count as due: mail that may leave now, and nothing that is stopped."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from deliverability.holds.models import SendingHold
from esp.console.queue_facts import count_facts, keep_facts
from esp.lib.ids import new_id
from sending.lanes.models import LaneState
from sending.messages.models import Batch, QueueEntry
from tenants.directory.models import Tenant
from tests import make
from tests.cast import Cast

HOUR = dt.timedelta(hours=1)


def wait(batch: Batch, count: int = 1, **fields: Any) -> None:
    """Let messages of `batch` wait, due since a minute if nothing else is said."""
    now = timezone.now()
    values = {
        "tenant_id": batch.tenant_id, "batch_id": batch.pk, "domain": "gmail.test",
        "due_at": now - dt.timedelta(minutes=1), "expires_at": now + dt.timedelta(days=1),
    } | fields  # fmt: skip
    QueueEntry.objects.bulk_create(
        [QueueEntry(message_id=new_id(), **values) for _ in range(count)]
    )


def by_state() -> dict[str, int]:
    return count_facts().by_state


def pause(batch: Batch) -> None:
    Batch.unscoped.filter(pk=batch.pk).update(status="paused")


def cancel(batch: Batch) -> None:
    Batch.unscoped.filter(pk=batch.pk).update(status="cancelled")


def suspend_tenant(batch: Batch) -> None:
    Tenant.objects.filter(pk=batch.tenant_id).update(status="suspended")


def hold(batch: Batch, **fields: Any) -> None:
    SendingHold.unscoped.create(tenant_id=batch.tenant_id, reason="Complaints", **fields)


def hold_batch(batch: Batch) -> None:
    hold(batch, batch_ref=batch.pk)


def hold_stream(batch: Batch) -> None:
    hold(batch, stream=batch.stream, until=timezone.now() + HOUR)


@pytest.mark.parametrize("stop", [pause, cancel, suspend_tenant, hold, hold_batch, hold_stream])
def test_mail_that_must_not_leave_is_not_due(cast: Cast, stop: Callable[[Batch], None]) -> None:
    stopped, free = make.batch(cast.acme), make.batch(cast.globex)
    now = timezone.now()
    wait(free, 2)
    wait(stopped, 3)
    wait(stopped, worker="w1")  # its worker is gone
    wait(stopped, worker="w2", due_at=now + HOUR)
    wait(stopped, attempts=1, due_at=now + HOUR)
    assert by_state() == {"due": 6, "leased": 1, "deferred": 1}
    stop(stopped)
    assert by_state() == {"due": 2, "stopped": 4, "leased": 1, "deferred": 1}


def test_what_stops_other_mail_leaves_it_due(cast: Cast) -> None:
    batch = make.batch(cast.acme)
    wait(batch)
    hold(batch, stream="transactional")
    hold(batch, batch_ref=make.batch(cast.acme).pk)
    hold(batch, until=timezone.now() - HOUR)
    hold(batch, lifted_at=timezone.now())
    hold(make.batch(cast.globex))
    assert by_state() == {"due": 1}


@pytest.mark.parametrize(
    "shut", [{"is_paused": True}, {"suspended_until": timezone.now() + 24 * HOUR}]
)
def test_mail_for_a_shut_lane_is_not_due(cast: Cast, shut: dict[str, Any]) -> None:
    LaneState.objects.create(source_id="", site="google", **shut)
    LaneState.objects.create(source_id="", site="yahoo")
    batch, other = make.batch(cast.acme), make.batch(cast.acme)
    later = timezone.now() + HOUR
    wait(batch, 3)  # claims leave them out, because of the next one
    wait(batch, site="google", hold="paused", due_at=later)
    wait(batch, site="yahoo", hold="suspended", domain="yahoo.test", due_at=later)
    wait(batch, domain="yahoo.test")
    wait(batch, domain="gmx.test")
    wait(other)  # by another pool, as long as nothing is heard
    wait(other, site="google", hold="rate", due_at=later)
    assert by_state() == {"due": 3, "stopped": 4, "held": 2}
    LaneState.objects.update(is_paused=False, suspended_until=timezone.now() - HOUR)
    assert by_state() == {"due": 6, "held": 3}


def test_the_pages_show_what_is_stopped_apart(operator: Client, cast: Cast) -> None:
    lane = LaneState.objects.create(source_id="", site="google")
    batch = make.batch(cast.acme, status="paused")
    wait(batch, 1207, site="google", attempts=1)
    wait(make.batch(cast.globex), 13, site="google", attempts=1)
    keep_facts(count_facts())
    text = " ".join(operator.get("/operator/lanes/").content.decode().split())
    assert '<dt>Due now</dt> <dd class="stat-number ">13</dd>' in text
    assert '<dt>Stopped</dt> <dd class="stat-number ">1,207</dd>' in text
    assert "paused, held, suspended or cancelled" in text
    text = operator.get(f"/operator/lanes/{lane.public_id}/").content.decode()
    for part in ("Due, and waiting for their turn", "Due, but their campaign", "not before that"):
        assert part in text, part
