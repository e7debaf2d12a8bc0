"""Rows that a look at the queue could miss: made by hand, one test each way."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from deliverability.alerts.models import Alert
from deliverability.alerts.selectors import open_alerts
from esp.kit import pauses
from sending.dispatch import invariants, watch
from sending.dispatch.invariants import SENTENCES, Cursor, check_queue
from sending.dispatch.mending import mend
from sending.dispatch.worker import DeliveryWorker
from sending.events.models import Event
from sending.messages.models import Batch, Message, MessageContent, QueueEntry
from tests import make
from tests.sending.dispatch.conftest import World
from tests.sending.dispatch.test_delivery import queue as send_to
from tests.sending.dispatch.test_invariants import Queue, ago, ahead, kinds, queue

__all__ = ["queue"]

pytestmark = pytest.mark.django_db

_HOLDS_OF_A_PLACE = (
    "connections", "rate", "cap", "suspended", "paused", "quarantine", "domain-rate",
)  # fmt: skip
_HOLDS_OF_A_BATCH = ("tenant-rate", "batch-rate", "global-rate", "node", "route")


def mended() -> dict[str, int]:
    report = check_queue(now=timezone.now())
    mend(report, now=timezone.now())
    return report.repaired


@pytest.fixture
def unpaused() -> Iterator[None]:
    yield
    pauses.resume_claims("dns")
    pauses._last = (-1.0, "")


@pytest.mark.parametrize("entry", [{}, {"worker": "host:1:x", "due_at": ahead(seconds=60)}])
def test_a_message_without_its_content_is_found_even_while_workers_take_it_again_and_again(
    queue: Queue, entry: dict[str, Any]
) -> None:
    key = queue.wait(**entry)
    gone = make.message_content(make.domain(queue.cast.acme))
    Message.unscoped.filter(pk=key).update(content=gone)
    MessageContent.unscoped.filter(pk=gone.pk).delete()
    assert kinds() == {"no-content": [key]}
    assert mended() == {"no-content": 1}
    message = Message.unscoped.get(pk=key)
    assert (message.status, message.bounce_class) == ("dropped", "block/content")
    assert message.last_reply == "The message's content no longer exists."
    assert not QueueEntry.objects.exists()
    assert Event.unscoped.get(message_id=key).kind == "dropped"


def test_a_new_message_that_waits_for_nothing_is_found_and_due_at_once(queue: Queue) -> None:
    key = queue.wait(due_at=ahead(hours=2))
    queue.wait(due_at=ahead(hours=2), reason="Scheduled by the sender.")
    queue.wait(due_at=ahead(hours=2), hold="cap")
    queue.wait(due_at=ahead(hours=2), attempts=1)
    assert kinds() == {"ahead": [key]}
    assert mended() == {"ahead": 1}
    assert QueueEntry.objects.get(message_id=key).due_at <= timezone.now()
    assert QueueEntry.objects.filter(due_at__gt=ahead(hours=1)).count() == 3


def test_an_entry_that_names_another_batch_is_found_and_put_right(queue: Queue) -> None:
    key = queue.wait(batch_id=queue.make_batch().pk)
    assert kinds() == {"misfiled": [key]}
    assert mended() == {"misfiled": 1}
    assert QueueEntry.objects.get(message_id=key).batch_id == queue.batch.pk


def test_a_cancelled_batch_that_nobody_clears_is_found(queue: Queue) -> None:
    key = queue.wait()
    Batch.unscoped.update(status="cancelled", finished_at=timezone.now())
    assert kinds() == {}
    Batch.unscoped.update(finished_at=ago(hours=1))
    assert kinds() == {"closed-batch": [key]}


def test_a_status_that_is_none_is_no_reason(queue: Queue) -> None:
    key = queue.wait()
    Batch.unscoped.update(status="odd")
    assert kinds() == {"closed-batch": [key]}


def test_a_message_whose_batch_and_entry_are_gone_is_found(queue: Queue) -> None:
    key = queue.wait()
    QueueEntry.objects.all().delete()
    Message.unscoped.filter(pk=key).update(batch=uuid.uuid4())
    assert kinds() == {"no-batch": [key]}


@pytest.mark.parametrize("hold", [*_HOLDS_OF_A_PLACE, *_HOLDS_OF_A_BATCH])
def test_a_limit_that_holds_some_explains_the_others_of_the_place(queue: Queue, hold: str) -> None:
    queue.wait(due_at=ahead(minutes=30), hold=hold, reason="A limit is used up.")
    queue.wait(due_at=ago(hours=1))
    report = check_queue(now=timezone.now())
    assert report.findings == []
    assert report.waiting == {"limited": 1}


@pytest.mark.parametrize("hold", _HOLDS_OF_A_PLACE)
def test_a_limit_of_one_place_explains_nothing_elsewhere(queue: Queue, hold: str) -> None:
    queue.wait(due_at=ahead(minutes=30), hold=hold, reason="A limit is used up.")
    key = queue.wait(due_at=ago(hours=1), domain="plainmail.test")
    assert kinds() == {"overdue": [key]}


def test_a_limit_that_was_over_long_ago_explains_nothing(queue: Queue) -> None:
    held = queue.wait(due_at=ago(minutes=30), hold="rate", reason="A limit is used up.")
    key = queue.wait(due_at=ago(hours=1))
    assert kinds() == {"overdue": [key, held]}


def test_a_pause_for_our_name_servers_is_a_reason(queue: Queue, unpaused: None) -> None:
    queue.wait(due_at=ago(hours=1))
    pauses.pause_claims("dns", seconds=30)
    pauses._last = (-1.0, "")
    report = check_queue(now=timezone.now())
    assert report.findings == []
    assert report.waiting == {"engine-paused": 1}


def test_no_batch_is_forgotten_however_many_wait(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invariants, "_MOST_BATCHES", 2)
    wanted = {queue.wait(queue.make_batch(), due_at=ago(hours=1)) for _ in range(5)}
    found: set[uuid.UUID] = set()
    cursor = Cursor()
    for _ in range(10):
        report = check_queue(now=timezone.now(), after=cursor)
        found |= {key for finding in report.findings for key in finding.ids}
        cursor = report.cursor
        if cursor == Cursor():
            break
    assert found == wanted


@pytest.mark.parametrize("worker", ["host:1:x", "unknown-host:99999:dead", "nonsense"])
def test_a_lease_of_whomsoever_that_is_long_over_is_found(queue: Queue, worker: str) -> None:
    key = queue.wait(worker=worker, due_at=ago(hours=1))
    assert kinds() == {"dead-lease": [key]}


def test_the_database_takes_no_entry_without_its_times(queue: Queue) -> None:
    key = queue.wait()
    for column in ("due_at", "expires_at"):
        with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                f"UPDATE sending_queueentry SET {column} = NULL WHERE message_id = %s", [key]
            )


def test_the_scheduler_mends_at_once_what_needs_no_person_and_says_so(queue: Queue) -> None:
    watch._keep_cursor(Cursor())
    key = queue.wait(worker="w", due_at=ahead(days=400))
    watch.check()
    assert QueueEntry.objects.get(message_id=key).due_at <= ahead(
        seconds=settings.DELIVERY_LEASE_SECONDS + 1
    )
    (alert,) = open_alerts()
    assert (alert.subject, alert.severity) == ("long-lease", "warning")
    assert "Nothing is left to do." in alert.detail
    watch.check()
    assert open_alerts() == []


def test_what_could_send_twice_waits_for_a_person_who_is_told_how(queue: Queue) -> None:
    watch._keep_cursor(Cursor())
    queue.wait()
    QueueEntry.objects.all().delete()
    watch.check()
    assert not QueueEntry.objects.exists()
    alert = Alert.objects.get()
    assert (alert.subject, alert.severity) == ("no-entry", "critical")
    assert "--repair" in alert.detail
    assert "msg_" in alert.detail


def test_every_kind_has_words_and_either_a_mend_or_advice() -> None:
    for kind in SENTENCES:
        assert kind in watch._ADVICE or kind in watch._MENDED_AT_ONCE, kind


@pytest.mark.django_db(transaction=True)
def test_an_entry_that_a_final_message_has_left_behind_sends_nothing_again(
    world: World, worker: DeliveryWorker
) -> None:
    send_to(world, ["ada@plainmail.test", "bo@plainmail.test"])
    final = Message.unscoped.get(recipient="ada@plainmail.test")
    Message.unscoped.filter(pk=final.pk).update(status="delivered", last_reply="2.0.0 Taken")
    worker.run_slice(seconds=3.0)
    taken = [fact.recipient for fact in world.client.ledger(kinds=["delivered"])]
    assert taken == ["bo@plainmail.test"]
    QueueEntry.objects.update(due_at=ago(seconds=1))  # the lease runs out
    watch._keep_cursor(Cursor())
    watch.check()
    assert not QueueEntry.objects.exists()
    assert Alert.objects.get().subject == "orphan-entry"
    assert Message.unscoped.get(pk=final.pk).last_reply == "2.0.0 Taken"
