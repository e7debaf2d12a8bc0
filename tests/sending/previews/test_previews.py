"""Previews of what stands in an editor, hostile or not, and tests sent from there."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from deliverability.domains.models import Sender
from sending.audience.models import AttributeDefinition, Contact
from sending.content.models import CompiledVersion, Template
from sending.content.services import compile_version
from sending.messages.models import Message, MessageContent
from tenants.audit.models import AuditEntry
from tests import make
from tests.cast import Cast


def _source(**changes: str) -> dict[str, str]:
    fields = {"kind": "html", "subject": "Hi", "body": "<p>Hello {{ first_name }}</p>"}
    return fields | {"preview_text": "", "text_body": ""} | changes


def _ask(client: Client, **changes: str) -> dict[str, Any]:
    """Ask for a preview, let a worker compile it, and return the answer that follows."""
    answer = client.post("/previews/", _source(**changes))
    assert answer.status_code == 200, answer.content
    body: dict[str, Any] = answer.json()
    if body["state"] != "compiling":
        return body
    for version in CompiledVersion.unscoped.filter(finished_at=None):
        compile_version(tenant_id=version.tenant_id, version_id=version.pk)
    followed: dict[str, Any] = client.get(body["url"]).json()
    return followed


@pytest.fixture
def bea(cast: Cast) -> Contact:
    return make.contact(
        cast.acme, "bea@bigmail.test", first_name="Bea <b>", attributes={"city": "Hamburg"}
    )


# --- looking ---


def test_a_preview_waits_for_a_worker_and_then_shows_the_mail(alice: Client, bea: Contact) -> None:
    body = _ask(
        alice,
        subject="Hi {{ first_name }}",
        preview_text="From {{ city }}",
        contact=bea.public_id,
        footer="1",
    )
    assert body["state"] == "ready"
    assert body["subject"] == "Hi Bea <b>"
    assert body["preheader"] == "From Hamburg"
    assert body["missing"] == []
    page = alice.get(body["page"]).content.decode()
    assert "Hello Bea &lt;b&gt;" in page
    assert "1 Main Street" in page, "the footer of campaigns"


def test_a_preview_says_which_field_the_contact_lacks(alice: Client, cast: Cast) -> None:
    nameless = make.contact(cast.acme)
    body = _ask(
        alice, body="<p>{{ city }} {{ first_name | default: 'x' }}</p>", contact=nameless.public_id
    )
    assert body["missing"] == ["city"]
    assert not any("no default" in note for note in body["notes"]), "said once"


def test_plain_text_has_no_page_of_html(alice: Client) -> None:
    body = _ask(alice, kind="text", body="Hello {{ first_name | default: 'you' }}\n")
    assert (body["has_html"], body["text"]) == (False, "Hello you\n")
    assert alice.get(body["page"])["Content-Type"].startswith("text/plain")


def test_nothing_written_is_no_problem(alice: Client) -> None:
    assert _ask(alice, body="  ") == {"state": "empty"}


def test_the_page_of_a_mail_can_run_nothing(alice: Client) -> None:
    body = _ask(alice, body="<p>Hi</p><img src='https://pictures.example/a.png'>")
    answer = alice.get(body["page"])
    policy = answer["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "form-action 'none'" in policy
    assert "base-uri 'none'" in policy
    assert "img-src * data:" in policy
    sandbox = policy.split("sandbox ")[1]
    assert "allow-scripts" not in sandbox
    assert "allow-same-origin" not in sandbox
    assert answer["X-Frame-Options"] == "SAMEORIGIN"
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_dark_turns_a_mail_without_dark_styles_and_leaves_one_with_them(alice: Client) -> None:
    plain = _ask(alice, body="<p>Hi</p>")
    styled = _ask(
        alice,
        body="<style>@media (prefers-color-scheme: dark) { p { color: #fff } }</style><p>Hi</p>",
    )
    assert "invert(1)" in alice.get(plain["page"] + "&dark=1").content.decode()
    assert "invert(1)" not in alice.get(plain["page"]).content.decode()
    dark = alice.get(styled["page"] + "&dark=1").content.decode()
    assert "invert(1)" not in dark
    assert "@media (min-width:0px)" in dark, "the mail's own dark styles hold"
    assert "@media (max-width:0px)" in alice.get(styled["page"]).content.decode()


HOSTILE: list[tuple[str, dict[str, str], str]] = [
    ("broken MJML", {"kind": "mjml", "body": "<mjml>\n<mj-body>\n<mj-text>"}, "MJML"),
    ("a tag left open", {"body": "<p>\n{{ name </p>"}, "Line 2"),
    ("an unknown filter", {"body": "{{ 'a' | system: 'id' }}"}, "system"),
    ("a file", {"body": "{% include '/etc/passwd' %}"}, "include"),
    ("nesting without end", {"body": "<div>" * 5000}, "nested"),
    ("600 KB", {"body": "x" * 600 * 1024}, "larger than"),
    ("a NUL", {"body": "a\x00"}, "Null characters"),
    ("a kind that is none", {"kind": "exe"}, "Choose HTML"),
    ("bad Liquid in the subject", {"subject": "{% if %}"}, "missing expression"),
]


@pytest.mark.parametrize(
    ("changes", "word"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE]
)
def test_a_hostile_template_gets_a_sentence(
    alice: Client, changes: dict[str, str], word: str
) -> None:
    body = _ask(alice, **changes)
    assert body["state"] == "problem"
    assert word in body["problem"]


def test_a_loop_without_end_stops_with_a_sentence(alice: Client) -> None:
    loop = "{% for a in (1..9999) %}{% for b in (1..9999) %}{{ b }}{% endfor %}{% endfor %}"
    body = _ask(alice, body=f"<p>{loop}</p>")
    assert body["state"] == "problem"
    assert body["problem"]
    if "page" in body:
        assert alice.get(body["page"]).status_code == 200


def test_a_problem_names_its_line_and_its_field(alice: Client) -> None:
    body = _ask(alice, body="<p>\n\n{{ a | nope }}</p>")
    assert (body["line"], body["field"]) == (3, "body")
    assert _ask(alice, subject="{{ a | nope }}")["field"] == "subject"


# --- doors ---


def test_another_tenants_version_and_contact_do_not_exist(
    alice: Client, charlie: Client, bea: Contact
) -> None:
    body = _ask(alice)
    assert charlie.get(body["url"]).status_code == 404
    assert charlie.get(body["page"]).status_code == 404
    assert charlie.post("/previews/", _source(contact=bea.public_id)).status_code == 404
    assert charlie.get("/previews/contacts/?q=bea").json() == {"contacts": []}
    assert alice.get("/previews/cpl_x/").status_code == 404


def test_contacts_are_found_by_a_part_of_the_address(alice: Client, bea: Contact) -> None:
    found = alice.get("/previews/contacts/?q=ea@big").json()["contacts"]
    assert [row["id"] for row in found] == [bea.public_id]


def test_the_menu_offers_the_tenants_own_attributes_with_a_default(
    alice: Client, charlie: Client, cast: Cast
) -> None:
    AttributeDefinition.unscoped.create(tenant=cast.acme, key="city", label="Town")
    assert "{{ city | default: &quot;&quot; }}" in alice.get("/previews/tags/").content.decode()
    assert "Town" not in charlie.get("/previews/tags/").content.decode()


def test_visitors_see_nothing(visitor: Client) -> None:
    for path in ("/previews/panel/", "/previews/tags/", "/previews/contacts/", "/templates/"):
        assert visitor.get(path).status_code == 302


# --- sending a test ---


@pytest.fixture
def sender(cast: Cast) -> Sender:
    return make.sender(make.domain(cast.acme, "acme.example"), "news@acme.example")


@pytest.fixture
def template(cast: Cast) -> Template:
    return make.template(cast.acme)


def _test(client: Client, template: Template, chosen: Sender, /, **changes: str) -> Any:
    fields = _source(addresses="bea@bigmail.test", sender=str(chosen.pk), footer="1") | changes
    return client.post(f"/previews/test/{template.public_id}/", fields)


def test_a_test_is_sent_as_it_stands_in_the_editor(
    alice: Client, template: Template, sender: Sender, bea: Contact
) -> None:
    answer = _test(
        alice, template, sender, addresses="a@bigmail.test, b@bigmail.test", contact=bea.public_id
    )
    assert answer.status_code == 200
    assert "On its way to a@bigmail.test." in answer.content.decode()
    sent = list(Message.unscoped.order_by("recipient"))
    assert [message.recipient for message in sent] == ["a@bigmail.test", "b@bigmail.test"]
    assert {message.variables["city"] for message in sent} == {"Hamburg"}
    content = MessageContent.unscoped.get()
    assert content.compiled["source"]["subject"] == "[Test] Hi"
    assert content.compiled["footer"] is True
    assert (content.track_opens, content.track_clicks) == (False, False)
    assert AuditEntry.unscoped.get(action="previews.test").target == template.public_id


def test_a_suppressed_address_is_told(
    alice: Client, cast: Cast, template: Template, sender: Sender
) -> None:
    make.suppression(cast.acme, "bea@bigmail.test")
    page = _test(alice, template, sender).content.decode()
    assert "Not sent to bea@bigmail.test" in page


def test_a_marketer_may_send_tests_and_a_reader_may_not(
    cast: Cast, bob: Client, template: Template, sender: Sender
) -> None:
    assert _test(bob, template, sender).status_code == 403
    mia = make.user("mia@acme.example")
    make.membership(mia, cast.acme, "marketer")
    assert _test(make.client(mia), template, sender).status_code == 200


def test_another_tenant_cannot_test_with_it(
    cast: Cast, charlie: Client, alice: Client, template: Template, sender: Sender
) -> None:
    assert _test(charlie, template, sender).status_code == 404
    own = make.template(cast.globex)
    answer = _test(charlie, own, sender)
    assert answer.status_code == 422, "nor send as Acme"
    assert not Message.unscoped.exists()


BAD_TESTS: list[tuple[str, dict[str, str], str]] = [
    ("no address", {"addresses": " , "}, "Enter at least one address."),
    ("six", {"addresses": " ".join(f"a{n}@b.test" for n in range(6))}, "5 addresses at most"),
    ("a bad one among good ones", {"addresses": "a@b.test, c@@d"}, "c@@d"),
    ("nothing to send", {"body": " "}, "no content to send"),
    ("broken Liquid", {"body": "{{ a | nope }}"}, "nope"),
    ("a NUL", {"body": "a\x00"}, "Body: Null characters"),
    ("no sender", {"sender": ""}, "Choose a sender."),
    ("a sender that is none", {"sender": "x"}, "Choose one of your senders."),
]


@pytest.mark.parametrize(
    ("changes", "sentence"), [case[1:] for case in BAD_TESTS], ids=[case[0] for case in BAD_TESTS]
)
def test_a_test_that_cannot_be_sent_is_explained(
    alice: Client, template: Template, sender: Sender, changes: dict[str, str], sentence: str
) -> None:
    answer = _test(alice, template, sender, **changes)
    assert answer.status_code == 422
    assert sentence in answer.content.decode()
    assert not Message.unscoped.exists()
