"""The end of a message's life is honoured in whatever state it waits."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest
from django.utils import timezone

from deliverability.holds.models import SendingHold
from sending.dispatch.results import expire_overdue
from sending.messages.models import Batch, Message, MessageContent, QueueEntry
from tests import make
from tests.cast import Cast

pytestmark = pytest.mark.django_db


@pytest.fixture
def content(cast: Cast) -> MessageContent:
    return make.message_content(make.domain(cast.acme))


def wait(batch: Batch, content: MessageContent, **entry: Any) -> uuid.UUID:
    over = timezone.now() - dt.timedelta(minutes=10)
    message = make.message(batch, content, expires_at=over)
    values = {"due_at": over, "expires_at": over, **entry}
    QueueEntry.objects.create(
        message_id=message.pk,
        tenant_id=batch.tenant_id,
        batch_id=batch.pk,
        domain="bigmail.test",
        **values,
    )
    return message.pk


def status_after_sweep(key: uuid.UUID) -> str:
    expire_overdue(now=timezone.now())
    return Message.unscoped.get(pk=key).status


@pytest.mark.parametrize(
    "state", ["running", "paused", "held", "suspended", "retrying", "dead worker"]
)
def test_a_message_whose_life_is_over_expires(
    cast: Cast, content: MessageContent, state: str
) -> None:
    batch = make.batch(cast.acme, status="paused" if state == "paused" else "running")
    Batch.unscoped.update(created_at=timezone.now() - dt.timedelta(days=30))
    entry: dict[str, Any] = {
        "retrying": {"attempts": 4},
        "dead worker": {"worker": "host:1:dead"},
    }.get(state, {})
    if state == "held":
        SendingHold.unscoped.create(tenant=cast.acme, reason="Too many complaints.")
    if state == "suspended":
        cast.acme.status = "suspended"
        cast.acme.save()
    key = wait(batch, content, **entry)
    assert status_after_sweep(key) == "expired"
    assert not QueueEntry.objects.filter(message_id=key).exists()


def test_what_a_worker_has_in_hand_is_left_to_it(cast: Cast, content: MessageContent) -> None:
    soon = timezone.now() + dt.timedelta(seconds=60)
    key = wait(make.batch(cast.acme), content, worker="host:1:alive", due_at=soon)
    assert status_after_sweep(key) == "queued"
