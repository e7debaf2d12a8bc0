"""The editor: cards save as one goes, nobody writes over somebody else."""

from __future__ import annotations

import pytest
from django.test import Client

from sending.campaigns.models import Campaign
from sending.content.models import CompiledVersion
from tests import make
from tests.cast import Cast
from tests.sending.campaigns.conftest import World

HTMX = {"HX-Request": "true"}


def url(campaign: Campaign, page: str = "") -> str:
    return f"/campaigns/{campaign.public_id}/{page}"


def fresh(campaign: Campaign) -> Campaign:
    return Campaign.unscoped.get(pk=campaign.pk)


def test_creating_a_campaign_opens_its_editor(alice: Client, cast: Cast) -> None:
    answer = alice.post("/campaigns/add/", {"name": "  Spring  "})
    made = Campaign.unscoped.get(tenant=cast.acme)
    assert made.name == "Spring"
    assert answer["Location"] == url(made, "edit/")
    page = alice.get(answer["Location"])
    assert page.status_code == 200
    assert "Spring" in page.text


def test_a_campaign_without_a_name_is_refused_with_a_sentence(alice: Client, cast: Cast) -> None:
    answer = alice.post("/campaigns/add/", {"name": " "})
    assert answer.status_code == 422
    assert "This field is required." in answer.text
    assert not Campaign.unscoped.exists()


def test_each_card_saves_and_raises_the_version(alice: Client, world: World) -> None:
    campaign = make.campaign(world.tenant)
    cards = [
        ("to", {"lists": [str(world.news.pk)]}),
        ("from", {"sender": str(world.sender.pk)}),
        ("subject", {"subject": "Hello", "preview_text": "There"}),
        ("content", {"content_kind": "html", "body": "<p>Hi</p>", "text_body": ""}),
        ("schedule", {"when": "now", "track_clicks": "on"}),
        ("name", {"name": "Renamed"}),
    ]
    for version, (card, values) in enumerate(cards, start=1):
        data = {**values, "version": version}
        answer = alice.post(url(campaign, f"save/{card}/"), data, headers=HTMX)
        assert answer.status_code == 200, card
        assert f'value="{version + 1}"' in answer.text
    saved = fresh(campaign)
    assert [one.pk for one in saved.lists.model.unscoped.filter(pk=world.news.pk)] == [
        world.news.pk
    ]
    assert saved.sender_id == world.sender.pk
    assert (saved.subject, saved.preview_text, saved.body) == ("Hello", "There", "<p>Hi</p>")
    assert (saved.track_opens, saved.track_clicks) == (False, True)
    assert saved.name == "Renamed"


def test_a_stale_edit_is_refused_and_changes_nothing(alice: Client, world: World) -> None:
    campaign = world.draft()
    first = {"subject": "First", "preview_text": "", "version": 1}
    assert alice.post(url(campaign, "save/subject/"), first, headers=HTMX).status_code == 200
    second = {"subject": "Second", "preview_text": "", "version": 1}
    answer = alice.post(url(campaign, "save/subject/"), second, headers=HTMX)
    assert answer.status_code == 409
    assert answer["HX-Retarget"] == "#editor-banner"
    assert "Someone else has changed this campaign meanwhile." in answer.text
    assert fresh(campaign).subject == "First"


@pytest.mark.parametrize(
    ("card", "values", "sentence"),
    [
        ("subject", {"subject": "Hi\r\nBcc: all@acme.example"}, "Line breaks"),
        ("subject", {"subject": "{{ first_name"}, "Not saved"),
        ("subject", {"subject": "x" * 301}, "at most 300"),
        ("content", {"content_kind": "word", "body": "x"}, "Not saved"),
        ("content", {"content_kind": "html", "body": "x" * (513 * 1024)}, "512 KB"),
        ("to", {"lists": ["nonsense"]}, "Not saved"),
        ("from", {"sender": "nonsense"}, "Not saved"),
        ("schedule", {"when": "later", "scheduled_at": "2001-01-01T10:00"}, "has passed"),
        ("schedule", {"when": "later", "scheduled_at": ""}, "Choose the date"),
        ("name", {"name": ""}, "required"),
    ],
)
def test_bad_values_are_refused_with_a_sentence(
    alice: Client, world: World, card: str, values: dict[str, object], sentence: str
) -> None:
    campaign = world.draft()
    answer = alice.post(url(campaign, f"save/{card}/"), {**values, "version": 1}, headers=HTMX)
    assert answer.status_code == 422
    assert sentence in answer.text
    assert fresh(campaign).version == 1


def test_a_list_of_another_tenant_cannot_be_chosen(alice: Client, world: World, cast: Cast) -> None:
    foreign = make.contact_list(cast.globex, "Theirs")
    campaign = world.draft()
    data = {"lists": [str(foreign.pk)], "version": 1}
    assert alice.post(url(campaign, "save/to/"), data, headers=HTMX).status_code == 422


def test_a_save_without_a_version_is_refused(alice: Client, world: World) -> None:
    campaign = world.draft()
    answer = alice.post(url(campaign, "save/subject/"), {"subject": "x"}, headers=HTMX)
    assert answer.status_code == 422
    assert fresh(campaign).subject != "x"


def test_times_are_in_the_workspaces_zone(alice: Client, world: World) -> None:
    world.tenant.timezone = "Europe/Berlin"
    world.tenant.save()
    campaign = world.draft()
    year = fresh(campaign).created_at.year + 1
    data = {"when": "later", "scheduled_at": f"{year}-01-15T09:00", "version": 1}
    assert alice.post(url(campaign, "save/schedule/"), data, headers=HTMX).status_code == 200
    at = fresh(campaign).scheduled_at
    assert at is not None
    assert at.isoformat() == f"{year}-01-15T08:00:00+00:00"


def test_a_template_is_copied_into_the_draft(alice: Client, world: World) -> None:
    template = make.template(world.tenant, "Letter", subject="From the template", body="<b>T</b>")
    campaign = make.campaign(world.tenant)
    data = {"template": template.public_id, "version": 1}
    answer = alice.post(url(campaign, "use-template/"), data, headers=HTMX)
    assert answer["HX-Refresh"] == "true"
    saved = fresh(campaign)
    assert (saved.body, saved.subject) == ("<b>T</b>", "From the template")


def test_the_count_follows_the_lists(alice: Client, world: World) -> None:
    gone = make.contact(world.tenant)
    make.subscription(gone, world.news, "unsubscribed")
    answer = alice.get(url(world.draft(), "count/"), headers=HTMX)
    assert ">3<" in answer.text
    assert "of 4 on the chosen lists" in answer.text


def test_the_preview_is_filled_in_for_the_chosen_contact(alice: Client, world: World) -> None:
    make.contact(world.tenant, "grace@bigmail.test", first_name="<b>Grace</b>")
    campaign = world.draft()
    waiting = alice.get(url(campaign, "preview/"), headers=HTMX)
    assert "Preparing the preview" in waiting.text
    assert "load delay" in waiting.text
    world.compile(campaign)
    state = alice.get(url(campaign, "preview/?as_contact=Grace@bigmail.test"), headers=HTMX)
    assert "News for" in state.text
    frame = alice.get(url(campaign, "preview/frame/?as_contact=grace@bigmail.test"))
    assert "Hello &lt;b&gt;Grace&lt;/b&gt;" in frame.text
    assert 'href="https://acme.example/"' in frame.text
    policy = frame["Content-Security-Policy"]
    assert "sandbox" in policy
    assert "allow-scripts" not in policy
    assert "Hello you" in alice.get(url(campaign, "preview/frame/")).text


def test_content_that_cannot_be_compiled_says_why(alice: Client, world: World) -> None:
    campaign = world.ready(content_kind="mjml", body="<mjml><mj-body><oops></mjml>")
    answer = alice.get(url(campaign, "preview/"), headers=HTMX)
    assert "This content cannot be sent yet" in answer.text
    problem = CompiledVersion.unscoped.get(tenant=world.tenant).problem
    assert problem


def test_another_tenant_sees_nothing_of_it(charlie: Client, world: World) -> None:
    campaign = world.ready()
    for page in ["", "edit/", "review/", "count/", "state/", "preview/", "preview/frame/"]:
        assert charlie.get(url(campaign, page)).status_code == 404, page
    for page in ["save/to/", "use-template/", "test/", "send/", "schedule/", "unschedule/"]:
        assert charlie.post(url(campaign, page), {"version": 1}).status_code == 404, page
    for page in ["pause/", "resume/", "cancel/", "duplicate/", "delete/"]:
        assert charlie.post(url(campaign, page)).status_code == 404, page
    for page in ["", "recipients.csv"]:
        assert charlie.get(f"/reports/{campaign.public_id}/{page}").status_code == 404


def test_an_analyst_may_look_but_not_touch(bob: Client, world: World) -> None:
    campaign = world.ready()
    for page in ["review/", "count/", "preview/"]:
        assert bob.get(url(campaign, page)).status_code == 200, page
    assert bob.get(url(campaign, "edit/")).status_code == 403
    for page in ["save/to/", "test/", "send/", "schedule/", "cancel/", "duplicate/", "delete/"]:
        assert bob.post(url(campaign, page), {"version": 1}).status_code == 403, page
    assert fresh(campaign).status == "draft"


def test_a_draft_can_be_duplicated_and_deleted(alice: Client, world: World) -> None:
    campaign = world.draft("Original")
    alice.post(url(campaign, "duplicate/"))
    copy = Campaign.unscoped.get(name="Original (copy)")
    assert copy.body == campaign.body
    assert alice.post(url(copy, "delete/")).status_code == 302
    assert not Campaign.unscoped.filter(pk=copy.pk).exists()


def test_the_list_shows_campaigns_by_tab(alice: Client, world: World) -> None:
    assert "Create your first campaign" in alice.get("/campaigns/").text
    world.draft("Fine draft")
    assert "Fine draft" in alice.get("/campaigns/?show=draft").text
    sent = alice.get("/campaigns/?show=sent").text
    assert "Fine draft" not in sent
    assert "Nothing here" in sent
    assert alice.get("/campaigns/?after=forged!").status_code == 422
