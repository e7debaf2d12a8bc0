"""The audience's pages: each works, refuses strangers and readers, and explains bad input."""

from __future__ import annotations

import pytest
from django.test import Client

from sending.audience.models import Contact, ContactList, Subscription, Suppression
from tests import make
from tests.cast import Cast

PAGES = [
    "/audience/",
    "/audience/contacts/add",
    "/audience/attributes/",
    "/audience/attributes/add",
    "/audience/lists/",
    "/audience/lists/add",
    "/audience/imports/",
    "/audience/imports/add",
    "/audience/forms/",
    "/audience/forms/add",
    "/audience/suppressions/",
    "/audience/suppressions/add",
]


@pytest.mark.parametrize("path", PAGES)
def test_it_opens(alice: Client, path: str) -> None:
    assert alice.get(path).status_code == 200


@pytest.mark.parametrize("path", [path for path in PAGES if path.endswith("add")])
def test_it_refuses_a_reader(bob: Client, path: str) -> None:
    assert bob.get(path).status_code == 403


def test_a_contact_is_added_with_its_normal_form(alice: Client, cast: Cast) -> None:
    answer = alice.post("/audience/contacts/add", {"email": "Erika@BigMail.test"})
    assert answer.status_code == 302
    contact = Contact.unscoped.get(tenant=cast.acme)
    assert (contact.email, contact.email_norm) == ("Erika@bigmail.test", "erika@bigmail.test")
    assert alice.get(answer["Location"]).status_code == 200


def test_a_known_address_is_a_sentence_on_its_field(alice: Client, cast: Cast) -> None:
    make.contact(cast.acme, "erika@bigmail.test")
    data = {"email": "ERIKA@bigmail.test", "first_name": "Kept"}
    answer = alice.post("/audience/contacts/add", data)
    assert answer.status_code == 422
    assert b"already" in answer.content
    assert b"Kept" in answer.content


@pytest.mark.parametrize("email", ["", "x", "a@b", "a@b.test\r\nBcc: x@y.test", "a\0@b.test"])
def test_no_contact_is_made_of_a_bad_address(alice: Client, email: str) -> None:
    assert alice.post("/audience/contacts/add", {"email": email}).status_code == 422
    assert not Contact.unscoped.exists()


def test_another_tenants_contact_does_not_exist(charlie: Client, cast: Cast) -> None:
    contact = make.contact(cast.acme)
    for path in ("", "edit"):
        assert charlie.get(f"/audience/contacts/{contact.public_id}/{path}").status_code == 404
    assert charlie.post(f"/audience/contacts/{contact.public_id}/delete").status_code == 404
    assert Contact.unscoped.filter(pk=contact.pk).exists()


def test_a_contact_goes_with_its_history(alice: Client, cast: Cast) -> None:
    contact, chosen = make.contact(cast.acme), make.contact_list(cast.acme)
    path = f"/audience/contacts/{contact.public_id}"
    alice.post(f"{path}/subscribe", {"contact_list": str(chosen.pk)})
    assert Subscription.unscoped.get(contact=contact).status == "subscribed"
    assert alice.post(f"{path}/delete").status_code == 302
    assert not Contact.unscoped.filter(pk=contact.pk).exists()
    assert not Subscription.unscoped.exists()


def test_who_has_left_is_not_brought_back_by_hand(alice: Client, cast: Cast) -> None:
    contact, chosen = make.contact(cast.acme), make.contact_list(cast.acme)
    make.subscription(contact, chosen, "unsubscribed")
    path = f"/audience/contacts/{contact.public_id}/subscribe"
    assert alice.post(path, {"contact_list": str(chosen.pk)}).status_code == 409
    assert Subscription.unscoped.get(contact=contact).status == "unsubscribed"


def test_search_finds_parts_and_takes_wildcards_by_the_letter(alice: Client, cast: Cast) -> None:
    make.contact(cast.acme, "erika@bigmail.test", first_name="Erika", last_name="Muster_100%")
    make.contact(cast.acme, "other@bigmail.test")
    make.contact(cast.globex, "erika@globex.test")
    for query, hits in {"rik": 1, "ERIKA": 1, "er": 1, "_100%": 1, "%": 0, "\\": 0}.items():
        rows = alice.get("/audience/", {"q": query}).context["page"].rows
        assert len(rows) == hits, query


def test_pages_of_a_search_meet_without_gap(alice: Client, cast: Cast) -> None:
    made = [make.contact(cast.acme, f"reader{n}@bigmail.test") for n in range(120)]
    seen: list[object] = []
    after = ""
    for _ in range(3):
        page = alice.get("/audience/", {"q": "bigmail", "after": after}).context["page"]
        seen += [row.pk for row in page.rows]
        after = page.next_cursor or ""
    assert seen == [contact.pk for contact in reversed(made)]
    assert page.next_cursor is None
    back = alice.get("/audience/", {"q": "bigmail", "before": page.previous_cursor})
    assert [row.pk for row in back.context["page"].rows] == seen[50:100]


def test_contacts_are_narrowed_by_list_and_status(alice: Client, cast: Cast) -> None:
    chosen = make.contact_list(cast.acme)
    here, gone = make.contact(cast.acme), make.contact(cast.acme)
    make.contact(cast.acme)
    make.subscription(here, chosen)
    make.subscription(gone, chosen, "unsubscribed")
    query = {"list": chosen.public_id, "status": "unsubscribed"}
    rows = alice.get("/audience/", query).context["page"].rows
    assert [row.pk for row in rows] == [gone.pk]
    assert len(alice.get("/audience/", {"list": chosen.public_id}).context["page"].rows) == 2


def test_attributes_are_read_by_their_type(alice: Client, cast: Cast) -> None:
    for label, kind in (("Age", "number"), ("Born", "date"), ("Vip", "boolean")):
        answer = alice.post("/audience/attributes/add", {"label": label, "kind": kind})
        assert answer.status_code == 302
    data = {
        "email": "a@b.test",
        "attributes.age": "41",
        "attributes.born": "2001-02-03",
        "attributes.vip": "yes",
    }
    assert alice.post("/audience/contacts/add", {**data, "attributes.age": "x"}).status_code == 422
    assert alice.post("/audience/contacts/add", data).status_code == 302
    values = Contact.unscoped.get().attributes
    assert values == {"age": 41, "born": "2001-02-03", "vip": True}


def test_a_list_name_is_taken_once(alice: Client, cast: Cast) -> None:
    data = {"name": "News", "opt_in": "single"}
    assert alice.post("/audience/lists/add", data).status_code == 302
    assert alice.post("/audience/lists/add", {**data, "name": "NEWS"}).status_code == 422
    made = ContactList.unscoped.get()
    alice.post(f"/audience/lists/{made.public_id}/archive")
    made.refresh_from_db()
    assert made.archived_at is not None


def test_suppressions_are_added_once_removed_by_right_and_exported(
    alice: Client, bob: Client, cast: Cast
) -> None:
    data = {"email": "X@bigmail.test", "scope": "all", "detail": "=cmd()"}
    alice.post("/audience/suppressions/add", data)
    alice.post("/audience/suppressions/add", data)
    row = Suppression.unscoped.get()
    assert row.email_norm == "x@bigmail.test"
    export = b"".join(bob.get("/audience/suppressions/export.csv").streaming_content)  # type: ignore[attr-defined]
    assert b"x@bigmail.test,all,manual" in export
    assert b",'=cmd()," in export
    path = f"/audience/suppressions/{row.public_id}/remove"
    assert bob.post(path).status_code == 403
    assert alice.post(path).status_code == 302
    assert not Suppression.unscoped.exists()


ODD = ["\x00", "'", "%", "\\", "a" * 5_000, "con_zzz", "-1", "😀", "{{ x }}"]


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_odd_input_is_answered_and_breaks_nothing(
    alice: Client, api: make.ApiClient, odd: str
) -> None:
    pages = ["", "lists/", "imports/", "suppressions/", "attributes/", "forms/"]
    for name in ("q", "list", "status", "after", "before"):
        for page in pages:
            assert alice.get(f"/audience/{page}", {name: odd}).status_code < 500, (page, name)
    for page in ("contacts/add", "lists/add", "attributes/add", "suppressions/add", "imports/add"):
        fields = ("email", "name", "key", "label", "kind", "opt_in", "emails", "scope", "file")
        data = dict.fromkeys(fields, odd)
        assert alice.post(f"/audience/{page}", data).status_code < 500, page
    for path in ("contacts", "lists", "suppressions"):
        for name in ("q", "list", "cursor", "limit"):
            assert api.get(f"/api/v1/{path}", {name: odd}).status_code < 500, (path, name)
        for body in (odd, [odd], {"email": odd, "name": odd, "attributes": odd}, {odd: odd}, None):
            assert api.post(f"/api/v1/{path}", body).status_code in (400, 409, 422, 201), body
