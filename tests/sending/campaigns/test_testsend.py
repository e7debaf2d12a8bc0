"""A test goes to a few addresses, looks like the real mail, and says that it is one."""

from __future__ import annotations

from django.test import Client

from esp.kit.keys import signing_key
from esp.lib.tokens import TrackKind, TrackToken
from sending.audience.models import Suppression
from sending.campaigns.models import Campaign
from sending.events.models import Event
from sending.messages.models import Message, MessageContent
from sending.messages.services import ensure_compiled
from tests import make
from tests.sending.campaigns.conftest import World

HTMX = {"HX-Request": "true"}


def url(campaign: Campaign) -> str:
    return f"/campaigns/{campaign.public_id}/test/"


def test_it_goes_to_each_address_filled_in_for_the_contact(alice: Client, world: World) -> None:
    make.contact(world.tenant, "grace@bigmail.test", first_name="Grace")
    data = {"addresses": "a@acme.example, b@acme.example", "as_contact": "grace@bigmail.test"}
    answer = alice.post(url(world.draft()), data, headers=HTMX)
    assert answer.status_code == 200
    assert answer.text.count("The test is on its way to") == 2
    messages = Message.unscoped.all()
    assert {message.recipient for message in messages} == {"a@acme.example", "b@acme.example"}
    assert {message.stream for message in messages} == {"transactional"}
    assert {message.variables["first_name"] for message in messages} == {"Grace"}
    compiled = ensure_compiled(MessageContent.unscoped.get().pk)
    assert compiled.subject.startswith("[Test] News for")
    assert compiled.has_unsubscribe


def test_a_suppressed_address_gets_no_test(alice: Client, world: World) -> None:
    make.suppression(world.tenant, "no@acme.example")
    answer = alice.post(url(world.draft()), {"addresses": "no@acme.example"}, headers=HTMX)
    assert "gets no test" in answer.text


def test_bad_input_is_refused_with_a_sentence(alice: Client, world: World) -> None:
    ready = world.draft()
    six = ",".join(f"a{number}@acme.example" for number in range(6))
    for campaign, data, sentence in [
        (ready, {"addresses": ""}, "required"),
        (ready, {"addresses": six}, "5 addresses at most"),
        (ready, {"addresses": "not-an-address"}, "field needs your attention"),
        (ready, {"addresses": "a@b.example\r\nBcc: c@d.example"}, "field needs your attention"),
        (ready, {"addresses": "a@acme.example", "as_contact": "x@y.example"}, "No contact has"),
        (world.draft(sender=None), {"addresses": "a@acme.example"}, "Choose a sender first"),
        (world.draft(body=""), {"addresses": "a@acme.example"}, "There is no content"),
    ]:
        answer = alice.post(url(campaign), data, headers=HTMX)
        assert answer.status_code == 422, data
        assert sentence in answer.text, data
    assert not Message.unscoped.exists()


def test_an_unverified_domain_sends_no_test(alice: Client, world: World) -> None:
    domain = make.domain(world.tenant, "later.example", verified=False)
    campaign = world.draft(sender=make.sender(domain))
    answer = alice.post(url(campaign), {"addresses": "a@acme.example"}, headers=HTMX)
    assert answer.status_code == 422
    assert "not a verified sending domain" in answer.text


def test_unsubscribing_by_a_test_changes_nothing(alice: Client, world: World) -> None:
    alice.post(url(world.draft()), {"addresses": "a@acme.example"}, headers=HTMX)
    message = Message.unscoped.get()
    key = signing_key("tracking")
    for kind, letter in ((TrackKind.UNSUBSCRIBE, "u"), (TrackKind.PREFERENCES, "p")):
        token = TrackToken(message.tenant_id, message.pk, kind).pack(key)
        for data in ({"List-Unsubscribe": "One-Click"}, {"scope": "all"}, {"scope": "lists"}):
            assert alice.post(f"/t/{letter}/{token}", data).status_code == 200
    assert not Suppression.unscoped.exists()
    assert not Event.unscoped.filter(kind="unsubscribed").exists()
    again = alice.post(url(world.draft()), {"addresses": "a@acme.example"}, headers=HTMX)
    assert "The test is on its way to" in again.text
