"""The end of a message's life is honoured in whatever state it waits, and said in words."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.utils import timezone

from deliverability.holds.models import SendingHold
from deliverability.ips.models import DeliveryNode
from esp.kit import pauses
from sending.campaigns.models import Campaign
from sending.dispatch import tasks, watch
from sending.dispatch.invariants import Cursor
from sending.dispatch.results import expire_overdue
from sending.dispatch.worker import DeliveryWorker
from sending.events.models import Event
from sending.lanes.models import LaneState
from sending.messages.models import Batch, Message, MessageContent, QueueEntry
from tests import make
from tests.cast import Cast
from tests.sending.dispatch.conftest import World
from tests.sending.dispatch.test_delivery import queue, statuses

pytestmark = pytest.mark.django_db

_OVER = dt.timedelta(minutes=20)

# How the queue row looks in each state; the rest of the state is made in `_Waiting`.
_ENTRIES: dict[str, dict[str, Any]] = {
    "ready": {},
    "deferred by the receiver": {"attempts": 4, "reason": "bigmail.test asked to try again."},
    "scheduled by the sender": {"reason": "Scheduled by the sender."},
    "held by connections": {"hold": "connections", "reason": "All connections are busy."},
    "held by rate": {"hold": "rate", "reason": "The rate is used up."},
    "held by the day's cap": {"hold": "cap", "reason": "Today's cap is reached."},
    "in a suspended lane": {"hold": "suspended", "site": "bigmail", "source_id": "s1"},
    "in a paused lane": {"hold": "paused", "site": "bigmail", "source_id": "s1"},
    "in quarantine": {"hold": "quarantine", "reason": "The address is in quarantine."},
    "held by the tenant's rate": {"hold": "tenant-rate"},
    "held by the batch's rate": {"hold": "batch-rate"},
    "held by the domain's rate": {"hold": "domain-rate"},
    "held by the rate of all": {"hold": "global-rate"},
    "held by its route": {"hold": "route", "reason": "The relay does not answer."},
    "its node is dead": {"hold": "node", "reason": "No host has this address."},
    "held workspace": {},
    "held batch": {},
    "held stream": {},
    "suspended workspace": {},
    "paused campaign": {},
    "campaign in preparation": {},
    "cancelled batch": {},
    "no worker and no pump": {},
    "name servers silent": {},
    "lease of a dead worker": {"worker": "host:1:dead"},
    "lease that is renewed for ever": {"worker": "host:1:mad", "due_at": "lease"},
    "lease by a wrong clock": {"worker": "host:1:x", "due_at": "year"},
    "next try after its end": {"attempts": 2, "reason": "Later.", "due_at": "year"},
    "young campaign": {},
    "batch that is done": {},
    "batch that is gone": {},
    "without a queue row": {},
}

_NOW = timezone.now()
_BATCHES: dict[str, dict[str, Any]] = {
    "paused campaign": {"status": "paused"},
    # What its own sweep has left, for whatever reason.
    "cancelled batch": {"status": "cancelled", "finished_at": _NOW - _OVER},
    "young campaign": {"created_at": _NOW},
    "batch that is done": {"status": "done", "finished_at": _NOW},
}
_LANES: dict[str, dict[str, Any]] = {
    "in a suspended lane": {"suspended_until": _NOW + dt.timedelta(hours=9)},
    "in a paused lane": {"is_paused": True},
}


class _Waiting:
    """One message of Acme's that waits in `state`, its life over for twenty minutes."""

    def __init__(self, cast: Cast, state: str) -> None:
        self.cast = cast
        self.over = timezone.now() - _OVER
        self.batch = make.batch(cast.acme, kind=Batch.Kind.CAMPAIGN, stream="broadcast")
        Batch.unscoped.update(created_at=timezone.now() - dt.timedelta(days=30))
        content = make.message_content(make.domain(cast.acme))
        self.key = make.message(self.batch, content, expires_at=self.over).pk
        self._queue(_ENTRIES[state])
        self._surround(state, content)

    def _queue(self, entry: dict[str, Any]) -> None:
        moments = {
            "lease": timezone.now() + dt.timedelta(seconds=60),
            "year": timezone.now() + dt.timedelta(days=365),
        }
        due_at = moments.get(entry.get("due_at", ""), self.over)
        values = {"expires_at": self.over, **entry, "due_at": due_at}
        QueueEntry.objects.create(
            message_id=self.key,
            tenant_id=self.batch.tenant_id,
            batch_id=self.batch.pk,
            domain="bigmail.test",
            **values,
        )

    def _surround(self, state: str, content: MessageContent) -> None:
        """Make what stands around the queue row in `state`."""
        acme, batches = self.cast.acme, Batch.unscoped.filter(pk=self.batch.pk)
        if state.startswith("held "):
            self._hold(state)
        elif state in _LANES:
            LaneState.objects.create(source_id="s1", site="bigmail", **_LANES[state])
        elif state in _BATCHES:
            batches.update(**_BATCHES[state])
        elif state == "suspended workspace":
            type(acme).objects.filter(pk=acme.pk).update(status="suspended")
        elif state == "campaign in preparation":
            campaign = make.campaign(acme, batch=self.batch, content=content)
            Campaign.unscoped.filter(pk=campaign.pk).update(status="preparing")
        elif state == "no worker and no pump":
            DeliveryNode.objects.all().delete()
        elif state == "name servers silent":
            pauses.pause_claims("dns", seconds=30)
        elif state == "batch that is gone":
            batches.delete()
        elif state == "without a queue row":
            QueueEntry.objects.all().delete()

    def _hold(self, state: str) -> None:
        fields: dict[str, dict[str, Any]] = {
            "held workspace": {},
            "held batch": {"batch_ref": self.batch.pk},
            "held stream": {"stream": "broadcast"},
        }
        if state in fields:
            SendingHold.unscoped.create(
                tenant=self.cast.acme, reason="Too many complaints.", **fields[state]
            )


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    watch._keep_cursor(Cursor())
    yield
    pauses.resume_claims("dns")


@pytest.mark.parametrize("state", list(_ENTRIES))
def test_a_message_whose_life_is_over_expires_with_words(cast: Cast, state: str) -> None:
    waiting = _Waiting(cast, state)
    tasks.expire()  # what the scheduler runs every ten seconds, and every minute
    watch.check()
    message = Message.unscoped.get(pk=waiting.key)
    assert (message.status, message.bounce_class) == ("expired", "soft/expired")
    assert message.last_reply == "The message could not be sent in time."
    assert message.final_at is not None
    assert [event.kind for event in Event.unscoped.filter(message_id=waiting.key)] == ["expired"]
    assert not QueueEntry.objects.filter(message_id=waiting.key).exists()


def test_what_the_receiver_said_last_stays_with_a_message_that_expires(cast: Cast) -> None:
    waiting = _Waiting(cast, "deferred by the receiver")
    Message.unscoped.filter(pk=waiting.key).update(status="deferred", last_reply="452 4.2.2 Full")
    tasks.expire()
    message = Message.unscoped.get(pk=waiting.key)
    assert (message.status, message.last_reply) == ("expired", "452 4.2.2 Full")


def test_what_a_worker_has_in_hand_is_left_to_it(cast: Cast) -> None:
    waiting = _Waiting(cast, "ready")
    soon = timezone.now() + dt.timedelta(seconds=60)
    just_over = timezone.now() - dt.timedelta(seconds=1)
    QueueEntry.objects.update(worker="host:1:alive", due_at=soon, expires_at=just_over)
    assert expire_overdue(now=timezone.now()) == 0
    watch.check()
    assert Message.unscoped.get(pk=waiting.key).status == "queued"


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_claims_what_is_over_ends_it_instead_of_sending_it(
    world: World, worker: DeliveryWorker
) -> None:
    batch = queue(world, ["ada@plainmail.test"])
    QueueEntry.objects.update(expires_at=timezone.now() - dt.timedelta(seconds=1))
    worker.run_slice(seconds=2.0)
    assert set(statuses(batch).values()) == {"expired"}
    key = uuid.UUID(str(Message.unscoped.get().pk))
    assert Message.unscoped.get(pk=key).last_reply == "The message could not be sent in time."
    assert list(world.client.ledger(kinds=["delivered"])) == []
