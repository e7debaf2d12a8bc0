"""The workspace's settings, and switching between workspaces."""

from __future__ import annotations

import pytest
from django.test import Client

from tenants.audit.models import AuditEntry
from tests import make
from tests.cast import Cast

GOOD = {"name": "Acme Ltd", "postal_address": " 2 High St \n\n Springfield ", "timezone": "UTC"}


def test_the_settings_are_saved_and_recorded(alice: Client, cast: Cast) -> None:
    assert alice.post("/settings/", GOOD).status_code == 302
    cast.acme.refresh_from_db()
    assert cast.acme.name == "Acme Ltd"
    assert cast.acme.postal_address == "2 High St\nSpringfield"
    entry = AuditEntry.unscoped.get(action="directory.update_workspace")
    assert entry.detail["name"] == ["Acme", "Acme Ltd"]


def test_an_analyst_reads_but_does_not_change(bob: Client, cast: Cast) -> None:
    assert bob.get("/settings/").status_code == 200
    assert bob.post("/settings/", GOOD).status_code == 403
    cast.acme.refresh_from_db()
    assert cast.acme.name == "Acme"


@pytest.mark.parametrize(
    "change", [{"name": " "}, {"timezone": "Moon/Crater"}, {"name": "x" * 121}, {"name": "a\x00b"}]
)
def test_bad_input_is_said_and_nothing_is_lost(
    alice: Client, cast: Cast, change: dict[str, str]
) -> None:
    answer = alice.post("/settings/", {**GOOD, **change})
    assert answer.status_code == 422
    assert "2 High St" in answer.content.decode()
    cast.acme.refresh_from_db()
    assert cast.acme.name == "Acme"


@pytest.mark.parametrize("wanted", ["globex", "rubbish", ""])
def test_nobody_switches_to_a_workspace_that_is_not_theirs(
    alice: Client, cast: Cast, wanted: str
) -> None:
    tenant = str(cast.globex.pk) if wanted == "globex" else wanted
    assert alice.post("/workspace/switch", {"tenant": tenant}).status_code == 404
    assert "Acme" in alice.get("/settings/").content.decode()


def test_a_forged_session_workspace_is_ignored(cast: Cast) -> None:
    page = make.client(cast.alice, cast.globex).get("/settings/")
    assert "Globex" not in page.content.decode()


def test_a_person_without_a_workspace_is_told_what_to_do(db: None) -> None:
    page = make.client(make.user("lone@example.com")).get("/settings/")
    assert page.status_code == 403
    assert "You belong to no workspace yet" in page.content.decode()
