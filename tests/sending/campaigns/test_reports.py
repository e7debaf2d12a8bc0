"""Reports count what happened, and every number names what it is a share of."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from sending.campaigns.models import Campaign
from sending.campaigns.preparation import prepare_campaign
from sending.campaigns.report import progress_of, report_of, time_left
from sending.campaigns.services import send_campaign
from sending.events.services import Fact, StatKey, add_counts, hour_of, record_facts
from sending.messages.models import Message, QueueEntry
from tenants.scoping.context import scope
from tests.cast import Cast
from tests.sending.campaigns.conftest import World


@pytest.fixture
def campaign(cast: Cast, world: World) -> Campaign:
    """Ten recipients: 6 delivered (1 sent back later), 2 bounced, 1 deferred, 1 queued."""
    world.readers(7)
    made = world.ready("Big news")
    with scope(cast.acme.pk):
        send_campaign(actor=cast.alice_actor, campaign=made)
    prepare_campaign(tenant_id=cast.acme.pk, campaign_id=made.pk)
    made = Campaign.unscoped.get(pk=made.pk)
    now = timezone.now()
    messages = list(Message.unscoped.filter(batch_id=made.batch_id).order_by("id"))

    def fact(message: Message, kind: str, **detail: Any) -> Fact:
        return Fact(
            tenant_id=cast.acme.pk,
            message_id=message.pk,
            batch_id=made.batch_id,  # type: ignore[arg-type]
            recipient=message.recipient,
            kind=kind,
            at=now,
            site="bigmail",
            detail=detail,
        )

    facts = [fact(message, "delivered") for message in messages[:6]]
    facts.append(fact(messages[0], "bounced_late", **{"class": "soft/mailbox-full"}))
    facts += [fact(one, "bounced", **{"class": "hard/invalid-recipient"}) for one in messages[6:8]]
    facts += [fact(messages[8], "deferred"), fact(messages[1], "unsubscribed")]
    with scope(cast.acme.pk):
        record_facts(facts)
        key = (cast.acme.pk, made.batch_id, hour_of(now), "bigmail")
        add_counts(
            {
                StatKey(*key, "opened_unique"): 4,  # type: ignore[arg-type]
                StatKey(*key, "machine_opened_unique"): 1,  # type: ignore[arg-type]
                StatKey(*key, "clicked_unique"): 2,  # type: ignore[arg-type]
            }
        )
    QueueEntry.objects.filter(message_id__in=[message.pk for message in messages[:8]]).delete()
    QueueEntry.objects.filter(message_id=messages[8].pk).update(attempts=1)
    return made


def test_the_parts_of_the_live_bar_add_up_to_the_recipients(campaign: Campaign) -> None:
    with scope(campaign.tenant_id):
        progress = progress_of(campaign)
    totals = progress.totals
    assert (totals.arrived, totals.all_bounced) == (5, 3)
    assert (progress.deferred, progress.queued) == (1, 1)
    assert totals.arrived + totals.all_bounced + progress.deferred + progress.queued == 10


def test_the_report_counts_what_happened(campaign: Campaign) -> None:
    with scope(campaign.tenant_id):
        report = report_of(campaign)
    assert report.totals.recipients == 10
    assert report.totals.opened == 4
    assert report.totals.machine_opened == 1
    assert report.totals.unsubscribed == 1
    assert report.bounces_by_class == {"hard/invalid-recipient": 2, "soft/mailbox-full": 1}
    site = report.sites[0]
    assert (site.site, site.delivered, site.bounced, site.opened) == ("bigmail", 5, 3, 4)
    assert sum(report.curve["opened_unique"]) == 4


def test_the_report_page_names_its_denominators(alice: Client, campaign: Campaign) -> None:
    text = alice.get(f"/reports/{campaign.public_id}/").text
    for part in [
        "50.0 % of recipients",  # 5 delivered of 10
        "80.0 % of delivered, people",  # 4 opens of 5
        "1 more by machines (20.0 % of delivered)",
        "40.0 % of delivered, people",  # 2 clicks of 5
        "clicked, of those who opened",
        "30.0 % of recipients",  # 3 bounces of 10
        "No such mailbox",
        "Mailbox full",
    ]:
        assert part in text, part


def test_the_comparison_and_the_dashboard_show_it(alice: Client, campaign: Campaign) -> None:
    assert "Big news" in alice.get("/reports/").text
    dashboard = alice.get("/").text
    assert "Big news" in dashboard
    assert "50.0 % of 10 accepted" in dashboard


def test_without_campaigns_reports_say_what_to_do(alice: Client) -> None:
    assert "Reports come with the first campaign" in alice.get("/reports/").text


def test_the_export_has_every_recipient_and_runs_no_formula(
    alice: Client, campaign: Campaign
) -> None:
    victim = Message.unscoped.filter(batch_id=campaign.batch_id).first()
    assert victim is not None
    Message.unscoped.filter(pk=victim.pk).update(
        recipient_name='=HYPERLINK("http://evil.test")', status="delivered"
    )
    answer = alice.get(f"/reports/{campaign.public_id}/recipients.csv")
    assert "big-news-recipients.csv" in answer["Content-Disposition"]
    text = b"".join(answer.streaming_content).decode("utf-8-sig")  # type: ignore[attr-defined]
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 10
    assert len({row["address"] for row in rows}) == 10
    names = [row["name"] for row in rows if row["name"].lstrip("'").startswith("=")]
    assert names == ['\'=HYPERLINK("http://evil.test")']


def test_a_draft_has_no_export(alice: Client, world: World) -> None:
    draft = world.draft()
    assert alice.get(f"/reports/{draft.public_id}/recipients.csv").status_code == 404


@pytest.mark.parametrize(
    ("seconds", "words"), [(None, "–"), (4.4, "4 s"), (119, "2 min"), (5400, "1.5 h")]
)
def test_time_left_is_said_in_words(seconds: float | None, words: str) -> None:
    assert time_left(seconds) == words


def test_the_first_steps_follow_the_data(charlie: Client, alice: Client, world: World) -> None:
    text = charlie.get("/").text
    assert "Get ready to send" in text
    assert "0 of 6" in text
    assert "3 of 6" in alice.get("/").text  # domain, sender, contacts
