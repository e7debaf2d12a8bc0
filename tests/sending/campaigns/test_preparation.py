"""Preparation goes on exactly where a crash has left it."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings

from deliverability.ips.models import IpCap
from deliverability.ips.selectors import forget_sources
from sending.audience.models import Contact, Subscription
from sending.campaigns import preparation
from sending.campaigns.models import Campaign
from sending.campaigns.preparation import prepare_campaign
from sending.campaigns.services import send_campaign
from sending.messages import backpressure
from sending.messages.models import Message, QueueEntry
from tenants.scoping.context import scope
from tests import make
from tests.cast import Cast
from tests.sending.campaigns.conftest import World


@pytest.fixture
def started(cast: Cast, world: World, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    """A campaign to ten readers that is prepared four at a time."""
    monkeypatch.setattr(preparation, "CHUNK", 4)
    world.readers(7)
    campaign = world.ready()
    with scope(cast.acme.pk):
        send_campaign(actor=cast.alice_actor, campaign=campaign)
    return campaign


def recipients(campaign: Campaign) -> list[str]:
    rows = Message.unscoped.filter(batch_id=Campaign.unscoped.get(pk=campaign.pk).batch_id)
    return sorted(rows.values_list("recipient", flat=True))


def test_it_resumes_after_an_interruption_without_a_double(started: Campaign) -> None:
    with scope(started.tenant_id):
        made, is_over = preparation._prepare_chunk(started.pk)
    assert (made, is_over) == (4, False)
    assert prepare_campaign(tenant_id=started.tenant_id, campaign_id=started.pk) == 6
    assert len(recipients(started)) == len(set(recipients(started))) == 10
    assert QueueEntry.objects.count() == 10
    done = Campaign.unscoped.get(pk=started.pk)
    assert (done.status, done.recipients_prepared, done.recipients_total) == ("sending", 10, 10)


def test_a_chunk_that_was_not_committed_is_made_again(started: Campaign) -> None:
    with scope(started.tenant_id):
        preparation._prepare_chunk(started.pk)
        transaction.set_rollback(True)
    assert recipients(started) == []
    assert prepare_campaign(tenant_id=started.tenant_id, campaign_id=started.pk) == 10
    assert len(set(recipients(started))) == 10


def test_running_again_when_all_is_made_does_nothing(started: Campaign) -> None:
    prepare_campaign(tenant_id=started.tenant_id, campaign_id=started.pk)
    assert prepare_campaign(tenant_id=started.tenant_id, campaign_id=started.pk) == 0


def test_messages_go_by_the_normalised_address(cast: Cast, world: World) -> None:
    written = make.contact(cast.acme, "Grace.Hopper@bigmail.test")
    make.subscription(written, world.news)
    campaign = world.ready()
    with scope(cast.acme.pk):
        send_campaign(actor=cast.alice_actor, campaign=campaign)
    prepare_campaign(tenant_id=cast.acme.pk, campaign_id=campaign.pk)
    assert "grace.hopper@bigmail.test" in recipients(campaign)


def test_it_waits_with_a_reason_while_the_queue_is_full(
    started: Campaign,
    alice: Client,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.QUEUE_LIMIT = 100
    monkeypatch.setattr(backpressure, "_estimate_all", lambda: 100)
    backpressure.forget_counts()
    assert prepare_campaign(tenant_id=started.tenant_id, campaign_id=started.pk) == 0
    page = alice.get(f"/campaigns/{started.public_id}/").content.decode()
    assert "The sending queue is full" in page
    monkeypatch.setattr(backpressure, "_estimate_all", lambda: 99)
    backpressure.forget_counts()
    assert prepare_campaign(tenant_id=started.tenant_id, campaign_id=started.pk) == 10
    backpressure.forget_counts()


def test_the_most_engaged_go_first_while_an_address_warms_up(started: Campaign) -> None:
    """Across chunks: who never read is due last, who read lately first."""
    forget_sources()
    row = make.ip_address(make.ip_pool(), "127.0.9.1")
    IpCap.objects.create(ip=row, on=dt.datetime.now(dt.UTC).date(), messages=100)
    now = timezone.now()
    rows = Subscription.unscoped.filter(status="subscribed").order_by("contact_id")
    contacts = list(rows.values_list("contact_id", flat=True))
    read = {contacts[-1]: dt.timedelta(hours=1), contacts[0]: dt.timedelta(days=9)}
    for contact, ago in read.items():
        Contact.unscoped.filter(pk=contact).update(engaged_at=now - ago)
    assert prepare_campaign(tenant_id=started.tenant_id, campaign_id=started.pk) == 10
    queued = list(QueueEntry.objects.order_by("due_at").values_list("message_id", "due_at"))
    order = [Message.unscoped.get(pk=pk).contact_id for pk, _ in queued]
    assert order[:2] == [contacts[-1], contacts[0]]
    assert queued[-1][1] - queued[0][1] < dt.timedelta(seconds=1)
    forget_sources()


def test_without_a_warming_address_nobody_goes_first(started: Campaign) -> None:
    forget_sources()
    make.ip_address(make.ip_pool(), "127.0.9.1")
    with scope(started.tenant_id):
        preparation._prepare_chunk(started.pk)
    assert QueueEntry.objects.values("due_at").distinct().count() == 1
    forget_sources()
