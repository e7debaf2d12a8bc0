"""Each rule of the queue, broken by hand: seen, told, mended where that is safe, closed again."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.utils import timezone

from deliverability.alerts.checks import check_notes
from deliverability.alerts.selectors import open_alerts
from deliverability.holds.models import SendingHold
from sending.dispatch import watch
from sending.dispatch.invariants import Cursor, check_queue
from sending.dispatch.mending import mend
from sending.messages.models import Batch, Message, MessageContent, QueueEntry
from tests import make
from tests.cast import Cast

pytestmark = pytest.mark.django_db


class Queue:
    """A running batch of Acme's, and messages waiting in it as they should."""

    def __init__(self, cast: Cast) -> None:
        self.cast = cast
        self.content: MessageContent = make.message_content(make.domain(cast.acme))
        self.batch = self.make_batch()

    def make_batch(self, **fields: Any) -> Batch:
        return make.batch(self.cast.acme, **fields)

    def wait(self, batch: Batch | None = None, **entry: Any) -> uuid.UUID:
        """Queue one message; `entry` changes its queue row."""
        batch = batch or self.batch
        message = make.message(batch, self.content)
        values = {
            "tenant_id": batch.tenant_id,
            "batch_id": batch.pk,
            "domain": "bigmail.test",
            "due_at": timezone.now(),
            "expires_at": message.expires_at,
            **entry,
        }
        QueueEntry.objects.create(message_id=message.pk, **values)
        return message.pk


@pytest.fixture
def queue(cast: Cast) -> Queue:
    return Queue(cast)


def ago(**delta: float) -> dt.datetime:
    return timezone.now() - dt.timedelta(**delta)


def ahead(**delta: float) -> dt.datetime:
    return timezone.now() + dt.timedelta(**delta)


def kinds(**options: Any) -> dict[str, list[uuid.UUID]]:
    report = check_queue(now=timezone.now(), **options)
    return {finding.kind: list(finding.ids) for finding in report.findings}


def test_a_queue_in_order_has_nothing_to_say(queue: Queue) -> None:
    queue.wait()
    queue.wait(due_at=ahead(hours=5), attempts=3)
    queue.wait(worker="w", due_at=ahead(seconds=settings.DELIVERY_LEASE_SECONDS))
    make.message(queue.batch, queue.content, status=Message.Status.DELIVERED)
    assert kinds() == {}


def test_a_waiting_message_without_an_entry_is_found_and_put_back(queue: Queue) -> None:
    key = queue.wait()
    make.message(queue.batch, queue.content, status=Message.Status.DELIVERED)
    QueueEntry.objects.all().delete()
    report = check_queue(now=timezone.now())
    assert [(one.kind, list(one.ids)) for one in report.findings] == [("no-entry", [key])]
    mend(report, now=timezone.now())
    assert report.is_well
    entry = QueueEntry.objects.get()
    assert (entry.message_id, entry.domain, entry.worker) == (key, "bigmail.test", "")
    assert kinds() == {}


def test_entries_of_final_and_of_absent_messages_are_found_and_removed(queue: Queue) -> None:
    final, gone, fine = queue.wait(), queue.wait(), queue.wait()
    Message.unscoped.filter(pk=final).update(status="delivered")
    Message.unscoped.filter(pk=gone).delete()
    report = check_queue(now=timezone.now())
    assert {one.kind: set(one.ids) for one in report.findings} == {"orphan-entry": {final, gone}}
    mend(report, now=timezone.now())
    assert [entry.message_id for entry in QueueEntry.objects.all()] == [fine]


def test_a_repair_leaves_alone_what_has_become_right_meanwhile(queue: Queue) -> None:
    key = queue.wait()
    Message.unscoped.filter(pk=key).update(status="delivered")
    report = check_queue(now=timezone.now())
    Message.unscoped.filter(pk=key).update(status="queued")
    mend(report, now=timezone.now())
    assert QueueEntry.objects.filter(message_id=key).exists()


def test_what_is_due_for_long_and_not_taken_is_found(queue: Queue) -> None:
    key = queue.wait(due_at=ago(hours=1))
    assert kinds() == {"overdue": [key]}


def test_a_backlog_that_is_being_worked_on_is_no_fault(queue: Queue) -> None:
    queue.wait(due_at=ago(hours=1))
    queue.wait(worker="w", due_at=ahead(seconds=60))
    assert kinds() == {}


@pytest.mark.parametrize("why", ["paused", "suspended", "held"])
def test_a_named_reason_explains_why_nobody_takes_it(queue: Queue, why: str) -> None:
    queue.wait(due_at=ago(hours=1))
    if why == "paused":
        Batch.unscoped.update(status="paused")
    elif why == "suspended":
        queue.cast.acme.status = "suspended"
        queue.cast.acme.save()
    else:
        SendingHold.unscoped.create(tenant=queue.cast.acme, reason="Too many complaints.")
    report = check_queue(now=timezone.now())
    assert report.findings == []
    assert report.waiting == {why: 1}


def test_a_hold_that_is_over_explains_nothing(queue: Queue) -> None:
    key = queue.wait(due_at=ago(hours=1))
    SendingHold.unscoped.create(tenant=queue.cast.acme, reason="x", until=ago(minutes=1))
    assert kinds() == {"overdue": [key]}


def test_a_dead_workers_lease_that_nobody_takes_over_is_found(queue: Queue) -> None:
    key = queue.wait(worker="host:1:dead", due_at=ago(hours=1))
    assert kinds() == {"dead-lease": [key]}


def test_a_lease_by_a_wrong_clock_is_found_and_shortened(queue: Queue) -> None:
    key = queue.wait(worker="w", due_at=ahead(days=400))
    report = check_queue(now=timezone.now())
    assert [one.kind for one in report.findings] == ["long-lease"]
    mend(report, now=timezone.now())
    entry = QueueEntry.objects.get(message_id=key)
    assert entry.due_at <= ahead(seconds=settings.DELIVERY_LEASE_SECONDS + 1)
    assert entry.worker == "w"


def test_a_try_after_the_end_of_its_life_is_found_and_brought_forward(queue: Queue) -> None:
    key = queue.wait(due_at=ahead(days=400))
    report = check_queue(now=timezone.now())
    assert [one.kind for one in report.findings] == ["far-due"]
    mend(report, now=timezone.now())
    assert QueueEntry.objects.get(message_id=key).due_at <= timezone.now()


@pytest.mark.parametrize("batch_status", ["running", "paused"])
def test_what_has_outlived_its_time_is_found_in_whatever_state(
    queue: Queue, batch_status: str
) -> None:
    Batch.unscoped.update(status=batch_status)
    key = queue.wait(expires_at=ago(hours=1), due_at=ago(minutes=5), worker="w")
    assert kinds()["expired"] == [key]


def test_entries_of_a_done_and_of_no_batch_are_found(queue: Queue) -> None:
    done = queue.make_batch(status="done", finished_at=timezone.now())
    in_done = queue.wait(done)
    in_none = queue.wait(batch_id=uuid.uuid4())
    found = kinds()
    assert (found["closed-batch"], found["no-batch"]) == ([in_done], [in_none])


def test_the_walk_goes_on_where_it_stopped_and_finds_every_fault_once(queue: Queue) -> None:
    other = queue.make_batch()
    made = [queue.wait(batch) for batch in (queue.batch, other) for _ in range(7)]
    Message.unscoped.filter(pk=made[6]).update(status="delivered")
    QueueEntry.objects.filter(message_id=made[12]).delete()
    found: list[tuple[str, uuid.UUID]] = []
    cursor = Cursor()
    for _ in range(20):
        report = check_queue(now=timezone.now(), after=cursor, rows=4)
        assert report.entries_seen <= 4
        assert report.messages_seen <= 4
        found += [(one.kind, key) for one in report.findings for key in one.ids]
        cursor = report.cursor
        if cursor == Cursor():
            break
    else:
        pytest.fail("the walk does not end")
    assert sorted(set(found)) == [("no-entry", made[12]), ("orphan-entry", made[6])]


def test_the_command_says_mends_and_ends_with_1(queue: Queue) -> None:
    queue.wait()
    QueueEntry.objects.all().delete()
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("check_queue", "--json", stdout=out)
    assert ended.value.code == 1
    said = json.loads(out.getvalue())
    assert (said["is_well"], said["findings"][0]["kind"]) == (False, "no-entry")
    out = StringIO()
    call_command("check_queue", "--all", "--repair", "--json", stdout=out)
    assert json.loads(out.getvalue())["repaired"] == {"no-entry": 1}
    out = StringIO()
    call_command("check_queue", "--all", stdout=out)
    assert "next attempt or a reason" in out.getvalue()


def test_the_scheduler_alerts_and_takes_the_alert_back(queue: Queue) -> None:
    watch._keep_cursor(Cursor())
    queue.wait(due_at=ago(hours=1))
    watch.check()
    (alert,) = open_alerts()
    assert (alert.code, alert.subject, alert.severity) == ("queue-stuck", "overdue", "critical")
    note = next(note for note in check_notes() if note.label == "Queue")
    assert "1 rules broken" in note.text
    QueueEntry.objects.update(due_at=timezone.now())
    watch.check()
    assert open_alerts() == []
