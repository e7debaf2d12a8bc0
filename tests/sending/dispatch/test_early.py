"""What waits for its turn in a lane leaves early where there is room, and nothing else does."""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections.abc import Mapping
from typing import Any

import pytest
from django.utils import timezone

from deliverability.holds.models import SendingHold
from deliverability.ips.models import IpAddress
from sending.dispatch.claims import Job
from sending.dispatch.early import claim_early
from sending.dispatch.worker import DeliveryWorker
from sending.engine.ports import Lane
from sending.messages.models import Batch, MessageContent, QueueEntry
from tests import make
from tests.cast import Cast
from tests.sending.dispatch.conftest import World
from tests.sending.dispatch.test_delivery import queue, run_until_empty, statuses

LANE = Lane("11", "mx.plainmail.test")
OTHER = Lane("12", "mx.plainmail.test")


class Waiting:
    """A running batch whose messages wait for a turn."""

    def __init__(self, cast: Cast) -> None:
        self.batch: Batch = make.batch(cast.acme)
        self._content: MessageContent = make.message_content(make.domain(cast.acme, "acme.example"))

    def add(self, *, seconds: float = 5.0, lane: Lane = LANE, **fields: Any) -> uuid.UUID:
        """Let one more wait, for a place unless `fields` say otherwise."""
        message = make.message(self.batch, self._content, "ada@plainmail.test")
        entry = {
            "hold": "connections", "reason": "all are busy", "site": lane.site,
            "source_id": lane.source_id, "domain": "plainmail.test",
        }  # fmt: skip
        QueueEntry.objects.create(
            message_id=message.pk, tenant_id=self.batch.tenant_id, batch_id=self.batch.pk,
            due_at=timezone.now() + dt.timedelta(seconds=seconds),
            expires_at=message.expires_at, **(entry | fields),
        )  # fmt: skip
        return uuid.UUID(str(message.pk))


@pytest.fixture
def waiting(cast: Cast) -> Waiting:
    return Waiting(cast)


def take(places: Mapping[Lane, int], *, limit: int = 100, **more: Any) -> tuple[list[Job], bool]:
    return claim_early(
        stream="broadcast", limit=limit, worker="w", now=timezone.now(),
        lease=dt.timedelta(minutes=1), places=places, **more,
    )  # fmt: skip


def test_what_waits_for_a_place_is_leased_where_there_is_one(waiting: Waiting) -> None:
    here = waiting.add()
    elsewhere = waiting.add(lane=OTHER)
    jobs, is_waiting = take({LANE: 1})
    assert [job.message_id for job in jobs] == [here]
    assert is_waiting
    entry = QueueEntry.objects.get(message_id=here)
    assert (entry.worker, entry.hold, entry.reason) == ("w", "", "")
    assert entry.due_at > timezone.now() + dt.timedelta(seconds=50)
    assert take({LANE: 1}) == ([], True), "who was taken is not taken twice; one waits elsewhere"
    assert [job.message_id for job in take({OTHER: 1})[0]] == [elsewhere]
    assert take({LANE: 1, OTHER: 1}) == ([], False)


def test_the_first_go_first_and_a_lane_gets_no_more_than_it_may_take(waiting: Waiting) -> None:
    later = [waiting.add(seconds=6.0 + number / 10) for number in range(9)]
    first = waiting.add(seconds=2.0)
    assert {job.message_id for job in take({LANE: 5}, limit=3)[0]} == {first, *later[:2]}
    assert {job.message_id for job in take({LANE: 1})[0]} == set(later[2:6])


def test_under_a_rate_one_goes_at_a_time(waiting: Waiting) -> None:
    first, second = waiting.add(seconds=2.0, hold="rate"), waiting.add(seconds=3.0, hold="rate")
    for expected in (first, second):
        assert [job.message_id for job in take({LANE: 8})[0]] == [expected]


@pytest.mark.parametrize(
    "fields",
    [
        {"hold": "cap"},
        {"hold": "suspended"},
        {"hold": ""},  # a receiver said no
        {"worker": "another", "hold": ""},
        {"seconds": 60.0},
    ],
    ids=str,
)
def test_what_waits_for_something_else_keeps_its_time(
    waiting: Waiting, fields: dict[str, Any]
) -> None:
    waiting.add(**fields)
    assert take({LANE: 8}) == ([], False)


def test_whoever_must_not_send_does_not_send_early(waiting: Waiting) -> None:
    waiting.add()
    batch = waiting.batch
    assert take({LANE: 8}, avoid={"plainmail.test"}) == ([], True)
    assert take({LANE: 8}, avoid_batches={batch.pk}) == ([], False)
    until = timezone.now() + dt.timedelta(seconds=4)
    hold = SendingHold.unscoped.create(
        tenant_id=batch.tenant_id, reason="Too many complaints", until=until
    )
    assert take({LANE: 8}) == ([], False), "though the hold is over before the message is due"
    hold.delete()
    Batch.unscoped.filter(pk=batch.pk).update(status="paused")
    assert take({LANE: 8}) == ([], False)
    Batch.unscoped.filter(pk=batch.pk).update(status="running")
    assert len(take({LANE: 8})[0]) == 1


def test_the_last_do_not_wait_beside_a_lane_with_nothing_to_do(
    world: World, worker: DeliveryWorker
) -> None:
    run_until_empty(worker, queue(world, ["ada@plainmail.test"]))
    source = IpAddress.objects.get(address="127.0.2.1")
    batch = queue(world, ["bob@plainmail.test", "eve@plainmail.test"])
    QueueEntry.objects.filter(batch_id=batch.pk).update(
        hold="connections", site=LANE.site, source_id=str(source.pk),
        due_at=timezone.now() + dt.timedelta(seconds=10),
    )  # fmt: skip
    begun = time.monotonic()
    run_until_empty(worker, batch, seconds=6.0)
    assert time.monotonic() - begun < 6.0
    assert set(statuses(batch).values()) == {"delivered"}
