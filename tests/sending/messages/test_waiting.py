"""Why a message waits: every cause by name, the strongest first, on the page, API and terminal."""

from __future__ import annotations

import datetime as dt
import io

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from deliverability.holds.models import SendingHold
from deliverability.ips.models import DeliveryNode
from sending.lanes.models import LaneState
from sending.messages.batch_waiting import waits_of
from sending.messages.models import Batch, Message, QueueEntry
from sending.messages.waiting import explanation_of, wait_of
from tenants.scoping.context import scope
from tests import make
from tests.cast import Cast

pytestmark = pytest.mark.django_db

HOUR = dt.timedelta(hours=1)


@pytest.fixture(autouse=True)
def worker(db: None) -> None:
    """A delivery worker has just given a sign of life."""
    DeliveryNode.objects.create(name="node-1", seen_at=timezone.now())


@pytest.fixture
def waiting(cast: Cast) -> Message:
    batch = make.batch(cast.acme, kind="campaign", stream="broadcast", label="Spring")
    content = make.message_content(make.domain(cast.acme))
    message = make.message(batch, content, "ada@bigmail.test")
    QueueEntry.objects.filter(message_id=message.pk).delete()
    enter(message)
    return message


def enter(message: Message, **fields: object) -> QueueEntry:
    values: dict[str, object] = {
        "message_id": message.pk,
        "tenant_id": message.tenant_id,
        "batch_id": message.batch_id,
        "domain": "bigmail.test",
        "due_at": timezone.now() - HOUR,
        "expires_at": timezone.now() + 24 * HOUR,
    }
    return QueueEntry.objects.create(**(values | fields))


def codes(message: Message) -> list[str]:
    with scope(message.tenant_id):
        entry = QueueEntry.objects.filter(message_id=message.pk).first()
        wait = wait_of(message, entry, Batch.objects.get(pk=message.batch_id))
    assert wait is not None
    return [cause.code for cause in wait.causes]


def sentence(message: Message) -> str:
    with scope(message.tenant_id):
        entry = QueueEntry.objects.filter(message_id=message.pk).first()
        return explanation_of(message, entry, Batch.objects.get(pk=message.batch_id))


def test_a_message_in_line_says_so(waiting: Message) -> None:
    assert codes(waiting) == ["next"]
    assert "its turn" in sentence(waiting)


def test_a_leased_message_is_being_handed_over(waiting: Message) -> None:
    QueueEntry.objects.update(worker="w1", due_at=timezone.now() + HOUR)
    assert codes(waiting) == ["leased"]


def test_a_final_message_does_not_wait(waiting: Message) -> None:
    waiting.status = Message.Status.DELIVERED
    with scope(waiting.tenant_id):
        assert wait_of(waiting, None, None) is None


def test_all_that_holds_it_is_named_the_strongest_first(waiting: Message, cast: Cast) -> None:
    now = timezone.now()
    cast.acme.status, cast.acme.suspended_reason = "suspended", "Unpaid"
    cast.acme.save()
    Batch.unscoped.update(status="paused")
    with scope(cast.acme.pk):
        SendingHold.objects.create(reason="Spam complaints rose.", until=now + HOUR)
    LaneState.objects.create(
        source_id="ip1",
        site="bigmail",
        is_paused=True,
        suspended_until=now + HOUR,
        suspended_reason="Bigmail asked for a rest.",
    )
    QueueEntry.objects.update(
        site="bigmail", source_id="ip1", hold="rate", reason="Bigmail takes 5 a second",
        due_at=now + HOUR,
    )  # fmt: skip
    assert codes(waiting) == [
        "tenant-suspended", "held", "paused", "lane-paused", "lane-suspended", "limit",
    ]  # fmt: skip
    assert sentence(waiting) == "The workspace is suspended; no mail leaves. Reason: Unpaid."


def test_holds_of_others_and_ended_ones_do_not_count(waiting: Message, cast: Cast) -> None:
    now = timezone.now()
    other = make.batch(cast.acme)
    with scope(cast.acme.pk):
        SendingHold.objects.create(reason="over", until=now - HOUR)
        SendingHold.objects.create(reason="lifted", lifted_at=now)
        SendingHold.objects.create(reason="another batch", batch_ref=other.pk)
        SendingHold.objects.create(reason="another stream", stream="transactional")
    with scope(cast.globex.pk):
        SendingHold.objects.create(reason="another tenant")
    assert codes(waiting) == ["next"]


def test_a_held_campaign_says_until_when(waiting: Message, cast: Cast) -> None:
    until = timezone.now() + HOUR
    with scope(cast.acme.pk):
        SendingHold.objects.create(
            reason="The receiver blocked it.", batch_ref=waiting.batch_id, until=until
        )
    assert sentence(waiting) == (
        "This campaign is held: The receiver blocked it. "
        f"This ends at {until:%Y-%m-%d %H:%M:%S} UTC."
    )


def test_a_limit_of_ours_and_a_reply_of_theirs_are_told_apart(waiting: Message) -> None:
    due = timezone.now() + HOUR
    QueueEntry.objects.update(hold="rate", reason="Bigmail takes 5 a second", due_at=due)
    assert codes(waiting) == ["limit"]
    assert sentence(waiting).startswith("Bigmail takes 5 a second. The next attempt is at ")
    QueueEntry.objects.update(hold="", reason="bigmail.test asked to wait: 421 busy")
    waiting.attempts, waiting.bounce_class = 1, "soft/throttled"
    assert codes(waiting) == ["receiver"]
    waiting.bounce_class = "soft/network-error"
    assert codes(waiting) == ["unreachable"]


def test_a_batch_groups_its_reasons(waiting: Message, cast: Cast) -> None:
    content = make.message_content(make.domain(cast.acme))
    batch = Batch.unscoped.get(pk=waiting.batch_id)
    later = timezone.now() + HOUR
    for number in range(3):
        message = make.message(batch, content, f"p{number}@greymail.test")
        QueueEntry.objects.filter(message_id=message.pk).delete()
        enter(message, hold="rate", site="greymail", reason="Greymail takes 1 a minute",
              due_at=later)  # fmt: skip
    with scope(cast.acme.pk):
        groups = waits_of(batch)
    assert [(group.count, group.cause.code) for group in groups] == [(3, "limit"), (1, "next")]
    assert groups[0].cause.text == "Greymail takes 1 a minute."
    Batch.unscoped.update(status="paused")
    with scope(cast.acme.pk):
        assert waits_of(Batch.objects.get(pk=batch.pk))[0].cause.code == "paused"


def test_a_finished_batch_waits_for_nothing(cast: Cast) -> None:
    batch = make.batch(cast.acme)
    with scope(cast.acme.pk):
        assert waits_of(batch) == []


def test_the_api_names_the_causes(waiting: Message, cast: Cast) -> None:
    api = make.api(cast.acme)
    shown = api.get(f"/api/v1/messages/{waiting.public_id}").json()["waiting"]
    assert shown["causes"][0]["code"] == "next"
    assert shown["next_attempt_at"] is not None
    batch = Batch.unscoped.get(pk=waiting.batch_id)
    answer = api.get(f"/api/v1/batches/{batch.public_id}/waiting")
    assert answer.status_code == 200
    assert answer.json()["groups"][0]["count"] == 1


def test_the_api_hides_another_tenants_batch(waiting: Message, cast: Cast) -> None:
    batch = Batch.unscoped.get(pk=waiting.batch_id)
    assert (
        make.api(cast.globex).get(f"/api/v1/batches/{batch.public_id}/waiting").status_code == 404
    )


def test_the_page_lists_what_else_would_hold_it(waiting: Message, alice: Client) -> None:
    Batch.unscoped.update(status="paused")
    text = alice.get(f"/developers/messages/{waiting.public_id}").content.decode()
    assert "Sending is paused" in text
    assert "It would wait without this, too" not in text
    later = timezone.now() + HOUR
    QueueEntry.objects.update(due_at=later, hold="limit", reason="The hour is used up.")
    text = alice.get(f"/developers/messages/{waiting.public_id}").content.decode()
    assert "It would wait without this, too" in text
    assert "The hour is used up." in text


def told(public_id: str) -> str:
    out = io.StringIO()
    call_command("why", public_id, stdout=out)
    return out.getvalue()


def test_the_terminal_tells_of_a_message_and_of_a_batch(waiting: Message) -> None:
    assert "its turn" in told(waiting.public_id)
    batch = Batch.unscoped.get(pk=waiting.batch_id)
    assert "1: Due, and waiting for their turn." in told(batch.public_id)
    QueueEntry.objects.all().delete()
    assert "Nothing of it waits." in told(batch.public_id)


@pytest.mark.parametrize(
    "public_id", ["msg_x", "bat_x", "rubbish", "msg_01k9y7mv5xf4a8k2r5t9c3w6hd"]
)
def test_the_terminal_refuses_what_is_no_message(public_id: str) -> None:
    with pytest.raises(CommandError):
        told(public_id)
