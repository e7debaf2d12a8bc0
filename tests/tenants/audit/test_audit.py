"""The audit log: sentences, filters, pages, and rows that only grow."""

from __future__ import annotations

import pytest
from django.db import ProgrammingError, connection, transaction
from django.test import Client

from tenants.audit.services import record
from tenants.audit.words import words_for
from tests.cast import Cast


def test_it_reads_as_sentences(alice: Client, cast: Cast) -> None:
    record(cast.alice_actor, "apikeys.create", target="Web shop", detail={"scopes": ["a", "b"]})
    page = alice.get("/settings/audit/").content.decode()
    assert "alice@acme.example" in page
    assert "created the API key" in page
    assert "Web shop" in page


def test_it_shows_nothing_of_another_tenant(charlie: Client, cast: Cast) -> None:
    record(cast.alice_actor, "apikeys.create", target="Web shop")
    assert "Web shop" not in charlie.get("/settings/audit/").content.decode()


def test_it_refuses_a_member_without_the_right(bob: Client) -> None:
    assert bob.get("/settings/audit/").status_code == 403


def test_it_filters_by_actor_and_action(alice: Client, cast: Cast) -> None:
    record(cast.alice_actor, "apikeys.create", target="First thing")
    record(cast.bob_actor, "apikeys.revoke", target="Second thing")
    for query in ("actor=bob@acme.example", "action=apikeys.revoke"):
        page = alice.get(f"/settings/audit/?{query}").content.decode()
        assert "Second thing" in page
        assert "First thing" not in page


def test_it_pages_by_key(alice: Client, cast: Cast) -> None:
    for number in range(60):
        record(cast.alice_actor, "apikeys.create", target=f"Key number {number:02}.")
    first = alice.get("/settings/audit/")
    assert "Key number 59." in first.content.decode()
    assert "Key number 05." not in first.content.decode()
    cursor = first.context["page"].next_cursor
    second = alice.get(f"/settings/audit/?after={cursor}").content.decode()
    assert "Key number 05." in second
    assert "Key number 59." not in second


@pytest.mark.parametrize("query", ["after=forged", "before=%00", "after=" + "z" * 26])
def test_a_forged_cursor_is_told_so(alice: Client, query: str) -> None:
    assert alice.get(f"/settings/audit/?{query}").status_code == 422


def test_a_nul_in_a_filter_finds_nothing(alice: Client) -> None:
    assert alice.get("/settings/audit/?actor=a%00b").status_code == 200


@pytest.mark.parametrize("verb", ["DELETE FROM", "UPDATE"])
def test_the_webs_role_cannot_change_the_log(cast: Cast, verb: str) -> None:
    record(cast.alice_actor, "apikeys.create", target="Web shop")
    tail = " SET target = 'other'" if verb == "UPDATE" else ""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute('SET LOCAL ROLE "mailwright_app"')
        with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
            cursor.execute(f"{verb} tenants_auditentry{tail}")
        cursor.execute("RESET ROLE")


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ("domains.add_sender", "added the sender"),
        ("campaigns.cancel", "cancelled the campaign"),
        ("lists.archive", "archived the lists"),
        ("campaigns.send", "sent the campaign"),
        ("plain", "plain"),
    ],
)
def test_actions_without_a_sentence_of_their_own_still_read(action: str, words: str) -> None:
    assert words_for(action) == words
