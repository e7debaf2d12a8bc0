"""The message log and the API reference in the browser."""

from __future__ import annotations

import json

import pytest
from django.core.management import call_command
from django.test import Client

from deliverability.domains.models import Domain
from sending.content.compiler import compile_content
from sending.content.types import ContentSource
from sending.messages.models import Message, MessageContent
from tests import make
from tests.cast import Cast

LIST = "/developers/messages/"


@pytest.fixture
def message(cast: Cast, acme_domain: Domain) -> Message:
    return make.message(
        make.batch(cast.acme),
        make.message_content(acme_domain, compiled={"subject": "Hello {{ name }}"}),
        "ada@bigmail.test",
        status="bounced",
        bounce_class="hard/invalid-recipient",
        last_reply="550 <b>no such user</b>",
        metadata={"order": "7"},
    )


def test_the_log_lists_messages(alice: Client, message: Message) -> None:
    page = alice.get(LIST).content.decode()
    assert "ada@bigmail.test" in page
    assert message.public_id in page


def test_the_log_is_filtered(alice: Client, message: Message) -> None:
    assert "No message matches" in alice.get(LIST, {"status": "queued"}).content.decode()
    assert message.public_id in alice.get(LIST, {"recipient": "Ada@bigmail.test"}).content.decode()


@pytest.mark.parametrize(
    "query",
    [{"recipient": "nobody"}, {"status": "x"}, {"since": "x"}, {"batch": "x"}, {"tag": "\x00"}],
    ids=str,
)
def test_a_bad_filter_says_what_is_wrong(
    alice: Client, message: Message, query: dict[str, str]
) -> None:
    answer = alice.get(LIST, query)
    assert answer.status_code == 200
    assert message.public_id not in answer.content.decode()


def test_a_forged_page_link_is_refused(alice: Client) -> None:
    assert alice.get(LIST, {"after": "forged"}).status_code == 422


def test_an_empty_log_says_what_to_do(alice: Client) -> None:
    assert "No messages yet" in alice.get(LIST).content.decode()


def test_a_message_shows_its_state_in_words(alice: Client, message: Message) -> None:
    page = alice.get(f"{LIST}{message.public_id}").content.decode()
    assert "Hello {{ name }}" in page
    assert "&lt;b&gt;no such user" in page
    assert "order" in page


def test_a_campaigns_message_shows_its_subject_as_the_recipient_reads_it(
    alice: Client, message: Message
) -> None:
    subject = "{{ first_name | default: 'Hello' }}, your {{ city }} news"
    compiled = compile_content(ContentSource("text", "News.", subject), footer=False)
    content = MessageContent.unscoped.filter(pk=message.content_id)
    content.update(compiled=json.loads(compiled.to_json()))
    Message.unscoped.filter(pk=message.pk).update(
        is_spanned=True, recipient_name="", first_name="Ada", variables={"city": "<Graz>"}
    )
    page = alice.get(f"{LIST}{message.public_id}").content.decode()
    assert "<dd>Ada, your &lt;Graz&gt; news</dd>" in page


def test_a_campaigns_message_shows_what_it_is_filled_with(alice: Client, message: Message) -> None:
    Message.unscoped.filter(pk=message.pk).update(
        is_spanned=True, recipient_name="", first_name="Mary Ann", last_name="Lee",
        variables={"city": "Graz"},
    )  # fmt: skip
    page = alice.get(f"/developers/messages/{message.public_id}").content.decode()
    assert "Mary Ann Lee · " in page
    for name, value in (("first_name", "Mary Ann"), ("email", message.recipient), ("city", "Graz")):
        assert f'<dt class="mono">{name}</dt><dd>{value}</dd>' in page


def test_a_part_of_the_message_page_answers_htmx(alice: Client, message: Message) -> None:
    part = alice.get(f"{LIST}{message.public_id}", headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in part
    assert 'id="state"' in part


def test_messages_of_one_address_are_a_part(alice: Client, message: Message) -> None:
    part = alice.get(f"{LIST}for-recipient", {"email": "ADA@bigmail.test"}).content.decode()
    assert message.public_id in part
    assert "<html" not in part


def test_it_refuses_another_tenant(charlie: Client, message: Message) -> None:
    assert charlie.get(f"{LIST}{message.public_id}").status_code == 404
    assert message.public_id not in charlie.get(LIST).content.decode()
    part = charlie.get(f"{LIST}for-recipient", {"email": "ada@bigmail.test"}).content.decode()
    assert message.public_id not in part


def test_an_analyst_may_read(bob: Client, message: Message) -> None:
    assert bob.get(f"{LIST}{message.public_id}").status_code == 200


def test_a_visitor_is_asked_to_sign_in(visitor: Client, message: Message) -> None:
    assert visitor.get(LIST).status_code == 302


def test_the_reference_shows_every_operation_of_the_document(alice: Client) -> None:
    page = alice.get("/developers/api/").content.decode()
    for text in (
        "/api/v1/messages/{message_id}",
        "/api/v1/domains",
        "Idempotency-Key",
        "to[].email",
    ):
        assert text in page


def test_the_document_is_public_and_names_the_scheme(visitor: Client) -> None:
    answer = visitor.get("/api/v1/schema", {"format": "json"})
    assert answer.status_code == 200
    document = answer.json()
    assert document["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"
    assert "/api/v1/messages" in document["paths"]


def test_the_document_is_made_without_a_warning(
    db: None, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("spectacular", "--validate", "--fail-on-warn")
    assert "openapi: 3" in capsys.readouterr().out
