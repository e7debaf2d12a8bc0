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
from esp.kit.stopping import ask_to_stop, forget_to_stop
from sending.audience.models import Contact, Subscription
from sending.campaigns import preparation
from sending.campaigns.models import Campaign, CampaignPart
from sending.campaigns.preparation import prepare_campaign
from sending.campaigns.services import cancel_campaign, send_campaign
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
    batch = Campaign.unscoped.get(pk=campaign.pk).batch_id
    assert batch is not None
    rows = Message.unscoped.filter(batch_id=batch)
    return sorted(rows.values_list("recipient", flat=True))


def first_part(campaign: Campaign) -> int | None:
    """Do what a worker does before it is interrupted."""
    assert preparation._cut_part(campaign.tenant_id, campaign.pk)
    return preparation._make_part(campaign.tenant_id, campaign.pk)


def test_it_resumes_after_an_interruption_without_a_double(started: Campaign) -> None:
    assert first_part(started) == 4
    assert prepare_campaign(tenant_id=started.tenant_id, campaign_id=started.pk) == 6
    assert len(recipients(started)) == len(set(recipients(started))) == 10
    assert QueueEntry.objects.count() == 10
    done = Campaign.unscoped.get(pk=started.pk)
    assert (done.status, done.recipients_prepared, done.recipients_total) == ("sending", 10, 10)


def test_a_chunk_that_was_not_committed_is_made_again(started: Campaign) -> None:
    with scope(started.tenant_id):
        assert first_part(started) == 4
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
    first_part(started)
    assert QueueEntry.objects.values("due_at").distinct().count() == 1
    forget_sources()


def test_a_part_that_was_cut_and_not_made_is_the_next_to_be_made(started: Campaign) -> None:
    preparation._cut_part(started.tenant_id, started.pk)
    assert recipients(started) == []
    assert prepare_campaign(tenant_id=started.tenant_id, campaign_id=started.pk) == 10
    assert len(set(recipients(started))) == 10
    assert not CampaignPart.unscoped.exists()


def test_a_campaign_that_was_begun_by_cursor_alone_goes_on_after_it(started: Campaign) -> None:
    first_part(started)
    CampaignPart.unscoped.all().delete()
    Campaign.unscoped.filter(pk=started.pk).update(recipients_prepared=4)
    assert prepare_campaign(tenant_id=started.tenant_id, campaign_id=started.pk) == 6
    assert Campaign.unscoped.get(pk=started.pk).recipients_prepared == 10


def test_no_more_parts_are_open_than_workers_are_allowed(
    started: Campaign, settings: Settings
) -> None:
    settings.CAMPAIGN_PREPARERS = 2
    cut = [preparation._cut_part(started.tenant_id, started.pk) for _ in range(3)]
    assert cut == [True, True, False]
    assert CampaignPart.unscoped.count() == 2


def test_progress_counts_what_was_made_at_each_further_part(started: Campaign) -> None:
    first_part(started)
    first_part(started)
    assert Campaign.unscoped.get(pk=started.pk).recipients_prepared == 4
    assert len(recipients(started)) == 8


def test_it_gives_way_after_its_seconds_and_goes_to_the_end_of_the_line(
    started: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str, ...]] = []
    monkeypatch.setattr(preparation, "enqueue_now", lambda *call: sent.append(call))
    ids = {"tenant_id": started.tenant_id, "campaign_id": started.pk}
    assert prepare_campaign(**ids, seconds=0) == 0
    assert sent == [("campaigns.prepare", str(started.tenant_id), str(started.pk))]
    assert prepare_campaign(**ids, seconds=3600) == 10
    assert len(sent) == 1, "what is done is not enqueued again"


def test_it_ends_between_two_parts_when_its_worker_is_stopped(
    started: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(preparation, "enqueue_now", lambda name, *_: sent.append(name))
    first_part(started)
    ask_to_stop()
    try:
        assert prepare_campaign(tenant_id=started.tenant_id, campaign_id=started.pk) == 0
    finally:
        forget_to_stop()
    assert len(recipients(started)) == 4
    assert sent == ["campaigns.prepare"], "another worker is woken"
    assert prepare_campaign(tenant_id=started.tenant_id, campaign_id=started.pk) == 6


def test_a_cancelled_campaign_is_not_prepared_on(started: Campaign, cast: Cast) -> None:
    first_part(started)
    preparation._cut_part(started.tenant_id, started.pk)
    with scope(cast.acme.pk):
        cancel_campaign(actor=cast.alice_actor, campaign=Campaign.objects.get(pk=started.pk))
    assert prepare_campaign(tenant_id=started.tenant_id, campaign_id=started.pk) == 0
    assert len(recipients(started)) == 4
    assert Campaign.unscoped.get(pk=started.pk).status == "cancelled"


def test_a_contact_on_several_lists_gets_one_and_an_excluded_one_none(
    cast: Cast, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "CHUNK", 4)
    second, off = make.contact_list(cast.acme), make.contact_list(cast.acme)
    everyone = [make.contact(cast.acme) for _ in range(20)]
    for number, contact in enumerate(everyone):
        make.subscription(contact, world.news)
        if number % 2:
            make.subscription(contact, second)
        if number % 5 == 0:
            make.subscription(contact, off)
    campaign = world.ready(lists=[world.news, second])
    with scope(cast.acme.pk):
        campaign.excluded_lists.set([off])
    with scope(cast.acme.pk):
        send_campaign(actor=cast.alice_actor, campaign=campaign)
    assert prepare_campaign(tenant_id=cast.acme.pk, campaign_id=campaign.pk) == 3 + 16
    assert len(set(recipients(campaign))) == 19


@pytest.mark.parametrize(("recipients", "woken"), [(100, 0), (preparation.SHARED_FROM, 2)])
def test_a_large_campaign_wakes_further_workers_and_a_small_one_none(
    started: Campaign, settings: Settings, monkeypatch: pytest.MonkeyPatch, recipients: int,
    woken: int,
) -> None:  # fmt: skip
    settings.CAMPAIGN_PREPARERS = 3
    sent: list[str] = []
    monkeypatch.setattr(preparation, "enqueue_on_commit", lambda name, *_: sent.append(name))
    Campaign.unscoped.filter(pk=started.pk).update(recipients_total=recipients)
    preparation._cut_part(started.tenant_id, started.pk)
    assert sent == ["campaigns.prepare"] * woken
    preparation._cut_part(started.tenant_id, started.pk)
    assert len(sent) == woken, "only the first part wakes"
