"""The review is the gate: what it forbids the server refuses, and what is sent is sent once."""

from __future__ import annotations

import datetime as dt

import pytest
from django.test import Client
from django.utils import timezone

from deliverability.domains.models import Domain
from sending.audience.models import Suppression
from sending.campaigns.models import Campaign
from sending.campaigns.preparation import finish_if_sent, prepare_campaign
from sending.campaigns.sweep import sweep_campaigns
from sending.messages.models import Batch, Message, MessageContent, QueueEntry
from tenants.scoping.context import scope
from tests import make
from tests.sending.campaigns.conftest import World


def url(campaign: Campaign, page: str = "") -> str:
    return f"/campaigns/{campaign.public_id}/{page}"


def fresh(campaign: Campaign) -> Campaign:
    return Campaign.unscoped.get(pk=campaign.pk)


def send(browser: Client, campaign: Campaign, version: int = 1) -> object:
    return browser.post(url(campaign, "send/"), {"version": version})


def test_the_review_says_who_gets_it_and_who_does_not_and_why(alice: Client, world: World) -> None:
    tenant, news = world.tenant, world.news
    second, staff = make.contact_list(tenant, "Second"), make.contact_list(tenant, "Staff")
    for status in ("unsubscribed", "unconfirmed"):
        make.subscription(make.contact(tenant), news, status)
    bounced, both, colleague = make.contact(tenant), make.contact(tenant), make.contact(tenant)
    for contact in (bounced, both, colleague):
        make.subscription(contact, news)
    make.suppression(tenant, bounced.email, reason=Suppression.Reason.BOUNCE)
    make.subscription(both, second)
    make.subscription(colleague, staff)
    campaign = world.ready(lists=[news, second])
    with scope(tenant.pk):
        campaign.excluded_lists.set([staff])
    text = " ".join(alice.get(url(campaign, "review/")).text.split())
    for label, shown in [
        ("Places on the chosen lists", "9"),
        ("On more than one list: counted once", "− 1"),
        ("Unsubscribed", "− 1"),
        ("Have not confirmed yet", "− 1"),
        ("On a list that is left out", "− 1"),
        ("Suppressed", "− 1"),
        ("Get this campaign", "4"),
    ]:
        row = text.split(f">{label}</th>")[1].split("</tr>")[0]
        assert f">{shown}</td>" in row, (label, row)
    assert "bounced for good" in text


def test_the_review_waits_for_the_compiler_and_looks_again(alice: Client, world: World) -> None:
    campaign = world.draft()
    page = alice.get(url(campaign, "review/")).text
    assert "The content is being checked" in page
    assert "load delay:1s" in page
    world.compile(campaign)
    part = alice.get(url(campaign, "review/"), headers={"HX-Request": "true"}).text
    assert "load delay:1s" not in part
    assert "3 people get this campaign." in part
    assert "<html" not in part


def test_sending_freezes_the_content_and_makes_one_message_a_contact(
    alice: Client, world: World
) -> None:
    campaign = world.ready()
    assert send(alice, campaign)["Location"] == url(campaign)  # type: ignore[index]
    assert fresh(campaign).status == "preparing"
    assert prepare_campaign(tenant_id=world.tenant.pk, campaign_id=campaign.pk) == 3
    sent = fresh(campaign)
    assert (sent.status, sent.recipients_prepared) == ("sending", 3)
    messages = Message.unscoped.filter(batch_id=sent.batch_id)
    assert {message.filling["first_name"] for message in messages} == {"Ada"}
    content = MessageContent.unscoped.get(pk=sent.content_id)
    assert content.from_email == "news@acme.example"
    assert content.list_ids == [world.news.pk]


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        ({"lists": []}, "Choose at least one list."),
        ({"sender": None}, "Choose a sender."),
        ({"subject": ""}, "The subject is empty."),
        ({"body": "  "}, "The content is empty."),
        ({"body": '<a href="https://">x</a>'}, "It was not sent"),
        ({"body": "<p>{{ city }}</p>"}, "&#x27;city&#x27; (3 lack it)"),
        ({"body": "<mjml", "content_kind": "mjml"}, "It was not sent"),
    ],
)
def test_each_missing_thing_closes_the_gate(
    alice: Client, world: World, break_it: dict[str, object], sentence: str
) -> None:
    campaign = world.ready(**break_it)
    answer = alice.post(url(campaign, "send/"), {"version": 1})
    assert answer.status_code == 422
    assert sentence in answer.text
    assert fresh(campaign).status == "draft"
    assert not Batch.unscoped.exists()


def test_an_unverified_domain_closes_the_gate(alice: Client, world: World) -> None:
    campaign = world.ready()
    Domain.unscoped.update(status=Domain.Status.FAILING)
    answer = alice.post(url(campaign, "send/"), {"version": 1})
    assert "acme.example is not verified" in answer.text
    assert not Batch.unscoped.exists()


def test_a_missing_postal_address_closes_the_gate(alice: Client, world: World) -> None:
    world.tenant.postal_address = ""
    world.tenant.save()
    answer = alice.post(url(world.ready(), "send/"), {"version": 1})
    assert answer.status_code == 422
    assert "postal address" in answer.text


def test_nobody_left_on_the_lists_closes_the_gate(alice: Client, world: World) -> None:
    empty = make.contact_list(world.tenant, "Empty")
    answer = alice.post(url(world.ready(lists=[empty]), "send/"), {"version": 1})
    assert "Nobody on these lists can receive this mail." in answer.text


def test_a_suspended_workspace_cannot_send(alice: Client, world: World) -> None:
    campaign = world.ready()
    world.tenant.status = "suspended"
    world.tenant.save()
    answer = alice.post(url(campaign, "send/"), {"version": 1})
    assert answer.status_code == 403
    assert "suspended" in answer.text
    assert fresh(campaign).status == "draft"


def test_pressing_send_twice_has_one_effect(alice: Client, world: World) -> None:
    campaign = world.ready()
    assert send(alice, campaign).status_code == 302  # type: ignore[attr-defined]
    answer = alice.post(url(campaign, "send/"), {"version": 1})
    assert answer.status_code == 409
    assert "This campaign is preparing already." in answer.text
    assert Batch.unscoped.count() == 1


def test_what_changed_since_the_review_is_not_sent(alice: Client, world: World) -> None:
    campaign = world.ready()
    data = {"subject": "Changed", "preview_text": "", "version": 1}
    alice.post(url(campaign, "save/subject/"), data, headers={"HX-Request": "true"})
    world.compile(fresh(campaign))
    answer = alice.post(url(campaign, "send/"), {"version": 1})
    assert answer.status_code == 409
    assert "Someone else has changed this campaign meanwhile." in answer.text
    assert fresh(campaign).status == "draft"


def test_a_scheduled_campaign_starts_when_it_is_due(alice: Client, world: World) -> None:
    at = timezone.now() + dt.timedelta(hours=2)
    campaign = world.ready(scheduled_at=at)
    assert alice.post(url(campaign, "schedule/"), {"version": 1}).status_code == 302
    assert fresh(campaign).status == "scheduled"
    assert "Unschedule and edit" in alice.get(url(campaign)).text
    sweep_campaigns()
    assert fresh(campaign).status == "scheduled"
    Campaign.unscoped.filter(pk=campaign.pk).update(scheduled_at=timezone.now())
    sweep_campaigns()
    assert fresh(campaign).status == "preparing"


def test_a_scheduled_campaign_whose_gate_closed_fails_with_the_reason(
    alice: Client, world: World
) -> None:
    campaign = world.ready(status="scheduled", scheduled_at=timezone.now())
    Domain.unscoped.update(status=Domain.Status.FAILING)
    sweep_campaigns()
    failed = fresh(campaign)
    assert failed.status == "failed"
    assert "not verified" in failed.failure
    assert "It could not start" in alice.get(url(campaign)).text


def test_unscheduling_makes_a_draft_again(alice: Client, world: World) -> None:
    at = timezone.now() + dt.timedelta(hours=2)
    campaign = world.ready(scheduled_at=at, status="scheduled")
    assert alice.post(url(campaign, "unschedule/")).status_code == 302
    assert fresh(campaign).status == "draft"


def test_pause_while_preparing_goes_on_preparing_and_sends_nothing(
    alice: Client, world: World
) -> None:
    campaign = world.ready()
    send(alice, campaign)
    alice.post(url(campaign, "pause/"))
    assert fresh(campaign).status == "paused"
    assert prepare_campaign(tenant_id=world.tenant.pk, campaign_id=campaign.pk) == 3
    paused = fresh(campaign)
    assert paused.status == "paused"
    assert paused.batch is not None
    assert Batch.unscoped.get(pk=paused.batch_id).status == "paused"
    alice.post(url(campaign, "resume/"))
    assert fresh(campaign).status == "sending"
    assert Batch.unscoped.get(pk=paused.batch_id).status == "running"
    answer = alice.post(url(campaign, "resume/"))
    assert answer.status_code == 409
    assert "This campaign is sending already." in answer.text


def test_cancel_ends_preparation_and_the_batch(alice: Client, world: World) -> None:
    campaign = world.ready()
    send(alice, campaign)
    alice.post(url(campaign, "cancel/"))
    assert prepare_campaign(tenant_id=world.tenant.pk, campaign_id=campaign.pk) == 0
    assert fresh(campaign).status == "cancelled"
    assert Batch.unscoped.get().status == "cancelled"
    assert not Message.unscoped.exists()


def test_a_campaign_is_sent_once_nothing_of_it_waits(alice: Client, world: World) -> None:
    campaign = world.ready()
    send(alice, campaign)
    prepare_campaign(tenant_id=world.tenant.pk, campaign_id=campaign.pk)
    assert not finish_if_sent(tenant_id=world.tenant.pk, campaign_id=campaign.pk)
    QueueEntry.objects.all().delete()
    assert finish_if_sent(tenant_id=world.tenant.pk, campaign_id=campaign.pk)
    assert fresh(campaign).status == "sent"
    assert alice.get(url(campaign))["Location"] == f"/reports/{campaign.public_id}/"


def test_the_live_part_stops_asking_when_it_is_over(alice: Client, world: World) -> None:
    campaign = world.ready()
    send(alice, campaign)
    part = alice.get(url(campaign), headers={"HX-Request": "true"}).text
    assert "every 2s" in part
    assert "<html" not in part
    alice.post(url(campaign, "cancel/"))
    part = alice.get(url(campaign), headers={"HX-Request": "true"}).text
    assert "every 2s" not in part
    assert "It was cancelled" in part
