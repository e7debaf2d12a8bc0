"""The template pages: what works, what another tenant and a reader may not, what bad input gets."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from sending.content.models import Template
from sending.content.starters import STARTERS
from tenants.audit.models import AuditEntry
from tests import make
from tests.cast import Cast

HTMX = {"HX-Request": "true"}


@pytest.fixture
def template(cast: Cast) -> Template:
    return make.template(cast.acme, "Welcome", subject="Hi", body="<p>Hi</p>")


def _url(template: Template, tail: str = "") -> str:
    return f"/templates/{template.public_id}/{tail}"


def _form(template: Template, **changes: Any) -> dict[str, Any]:
    fields = {
        "name": template.name,
        "kind": template.kind,
        "subject": template.subject,
        "preview_text": template.preview_text,
        "body": template.body,
        "text_body": template.text_body,
        "version": template.version,
    }
    return fields | changes


# --- the library ---


def test_an_empty_library_offers_the_starters(alice: Client) -> None:
    page = alice.get("/templates/").content.decode()
    assert "No templates yet" in page
    assert all(starter.name in page for starter in STARTERS)


def test_the_library_shows_only_the_tenants_own(
    alice: Client, charlie: Client, template: Template
) -> None:
    assert "Welcome" in alice.get("/templates/").content.decode()
    assert "Welcome" not in charlie.get("/templates/").content.decode()


def test_a_template_is_found_by_a_part_of_its_name(
    alice: Client, cast: Cast, template: Template
) -> None:
    make.template(cast.acme, "Goodbye")
    page = alice.get("/templates/?q=ELCO").content.decode()
    assert "Welcome" in page
    assert "Goodbye" not in page
    assert "No template is called that" in alice.get("/templates/?q=100%25").content.decode()


def test_the_library_goes_on_behind_its_first_page(alice: Client, cast: Cast) -> None:
    for number in range(26):
        make.template(cast.acme, f"Number {number:02}")
    first = alice.get("/templates/")
    assert "Number 25" in first.content.decode()
    assert "Number 01" not in first.content.decode()
    cursor = first.context["page"].next_cursor
    assert "Number 01" in alice.get(f"/templates/?after={cursor}").content.decode()
    assert alice.get("/templates/?after=forged!").status_code == 422


# --- creating, duplicating, deleting ---


@pytest.mark.parametrize("key", ["", *(starter.key for starter in STARTERS)])
def test_a_starter_becomes_a_template(alice: Client, cast: Cast, key: str) -> None:
    answer = alice.post("/templates/add/", {"starter": key})
    made = Template.unscoped.get(tenant=cast.acme)
    assert answer["Location"] == _url(made)
    assert made.body
    assert AuditEntry.unscoped.get(action="content.create").target == made.public_id


def test_the_same_starter_twice_gets_another_name(alice: Client, cast: Cast) -> None:
    for _ in range(3):
        alice.post("/templates/add/", {"starter": "newsletter"})
    names = set(Template.unscoped.filter(tenant=cast.acme).values_list("name", flat=True))
    assert names == {"Newsletter", "Newsletter 2", "Newsletter 3"}


def test_an_unknown_starter_is_refused(alice: Client) -> None:
    assert alice.post("/templates/add/", {"starter": "../../etc/passwd"}).status_code == 422
    assert not Template.unscoped.exists()


def test_a_copy_has_the_same_content(alice: Client, template: Template) -> None:
    alice.post(_url(template, "duplicate/"))
    copy = Template.unscoped.exclude(pk=template.pk).get()
    assert (copy.name, copy.body) == ("Welcome (copy)", template.body)


def test_a_template_is_deleted_and_a_campaign_keeps_its_content(
    alice: Client, cast: Cast, template: Template
) -> None:
    campaign = make.campaign(cast.acme, template=template, body="kept")
    assert alice.post(_url(template, "delete/")).status_code == 302
    campaign.refresh_from_db()
    assert (campaign.template, campaign.body) == (None, "kept")
    assert not Template.unscoped.exists()


# --- the doors ---

DOORS = [
    ("get", ""),
    ("post", ""),
    ("post", "duplicate/"),
    ("post", "delete/"),
]


@pytest.mark.parametrize(("verb", "tail"), DOORS)
def test_another_tenants_template_does_not_exist(
    charlie: Client, template: Template, verb: str, tail: str
) -> None:
    answer = getattr(charlie, verb)(_url(template, tail), _form(template, name="Mine"))
    assert answer.status_code == 404
    template.refresh_from_db()
    assert template.name == "Welcome"
    assert Template.unscoped.count() == 1


@pytest.mark.parametrize(("verb", "tail"), DOORS[1:])
def test_a_reader_may_not_change_anything(
    bob: Client, template: Template, verb: str, tail: str
) -> None:
    answer = getattr(bob, verb)(_url(template, tail), _form(template, name="Mine"))
    assert answer.status_code == 403
    assert Template.unscoped.get().name == "Welcome"


def test_a_reader_sees_the_editor_without_a_way_to_save(bob: Client, template: Template) -> None:
    page = bob.get(_url(template)).content.decode()
    assert "Welcome" in page
    assert "Send a test" not in page
    assert bob.post("/templates/add/", {"starter": ""}).status_code == 403


@pytest.mark.parametrize("bad", ["tpl_x", "con_" + "a" * 26, "tpl_" + "a" * 26, "%00"])
def test_a_forged_id_is_not_found(alice: Client, bad: str) -> None:
    assert alice.get(f"/templates/{bad}/").status_code == 404


# --- saving ---


def test_the_editor_saves(alice: Client, template: Template) -> None:
    changes = {"name": "Hello", "kind": "text", "body": "a\r\nb", "text_body": " "}
    answer = alice.post(_url(template), _form(template, **changes))
    assert answer.status_code == 302
    template.refresh_from_db()
    assert (template.name, template.kind, template.body) == ("Hello", "text", "a\nb")
    assert template.version == 2
    assert AuditEntry.unscoped.get(action="content.edit").detail["version"] == 2


def test_saving_by_itself_answers_with_the_new_version(alice: Client, template: Template) -> None:
    answer = alice.post(_url(template), _form(template, body="new"), headers=HTMX)
    assert answer.status_code == 200
    assert 'name="version" value="2"' in answer.content.decode()
    again = alice.post(_url(template), _form(template, body="new", version=2), headers=HTMX)
    assert 'name="version" value="2"' in again.content.decode(), "nothing changed"
    assert AuditEntry.unscoped.filter(action="content.edit").count() == 1


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_the_second_of_two_editors_is_told_and_loses_nothing(
    alice: Client, template: Template, headers: dict[str, str]
) -> None:
    alice.post(_url(template), _form(template, body="theirs"))
    answer = alice.post(_url(template), _form(template, body="mine"), headers=headers)
    assert answer.status_code == 409
    page = answer.content.decode()
    assert "Someone else has saved this template" in page
    assert 'data-overwrite="2"' in page
    assert 'name="version" value="1"' in page
    if not headers:
        assert ">\nmine</textarea>" in page
    template.refresh_from_db()
    assert template.body == "theirs"
    alice.post(_url(template), _form(template, body="mine", version=2), headers=headers)
    template.refresh_from_db()
    assert (template.body, template.version) == ("mine", 3)


CASES: list[tuple[str, dict[str, Any], str]] = [
    ("no name", {"name": "  "}, "Give the template a name."),
    ("a long name", {"name": "x" * 121}, "This may have 120 characters."),
    ("a line break in the subject", {"subject": "a\r\nBcc: b@x.test"}, "Line breaks"),
    ("a NUL", {"body": "a\x00b"}, "Null characters are not allowed."),
    ("a kind that is none", {"kind": "docx"}, "Choose HTML, MJML or plain text."),
    ("600 KB", {"body": "x" * 600 * 1024}, "The content is larger than"),
    ("a version that is none", {"version": "new"}, "Not saved"),
]


@pytest.mark.parametrize("headers", [{}, HTMX])
@pytest.mark.parametrize(
    ("changes", "sentence"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_bad_input_is_explained_and_kept_on_the_page(
    alice: Client,
    template: Template,
    headers: dict[str, str],
    changes: dict[str, Any],
    sentence: str,
) -> None:
    fields = _form(template, preview_text="kept on the page", **changes)
    answer = alice.post(_url(template), fields, headers=headers)
    assert answer.status_code == 422
    assert sentence in answer.content.decode()
    if not headers:
        assert "kept on the page" in answer.content.decode()
    template.refresh_from_db()
    assert (template.version, template.preview_text) == (1, "")


def test_a_name_that_is_taken_is_refused(alice: Client, cast: Cast, template: Template) -> None:
    make.template(cast.acme, "Taken")
    make.template(cast.globex, "Free here")
    answer = alice.post(_url(template), _form(template, name="TAKEN"))
    assert answer.status_code == 422
    assert "There is a template of this name already." in answer.content.decode()
    assert alice.post(_url(template), _form(template, name="Free here")).status_code == 302
