"""The navigation: every entry leads somewhere, and shows only to those whom its page lets in."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.test import RequestFactory, override_settings
from django.urls import reverse

from esp.kit.navigation import SECTIONS, address_of, navigation_for
from esp.lib.ids import new_id
from tenants.accounts.models import User
from tenants.directory.actor import Actor
from tenants.directory.permissions import ROLE_PERMISSIONS, Role

in_a_small_site = pytest.mark.urls("tests.esp.kit.nav_urls")


def request_as(role: Role | None, *, path: str = "/", operator: bool = False) -> HttpRequest:
    request = RequestFactory().get(path)
    request.user = User(email="alice@acme.example", is_operator=operator)
    request.actor = None  # type: ignore[attr-defined]
    if role is None:
        request.user = AnonymousUser() if not operator else request.user
        return request
    request.actor = Actor(  # type: ignore[attr-defined]
        tenant_id=new_id(), permissions=ROLE_PERMISSIONS[role], user_id=1
    )
    return request


def keys(request: HttpRequest, active: str = "") -> set[str]:
    return {section.key for section in navigation_for(request, active)}


@pytest.mark.parametrize("name", [e.name for section in SECTIONS for e in section.entries])
def test_every_entry_leads_to_a_page(name: str) -> None:
    assert address_of(name) is not None


def test_an_unknown_name_has_no_address() -> None:
    assert address_of("no-such-page") is None


@in_a_small_site
def test_a_stranger_sees_nothing() -> None:
    assert keys(request_as(None)) == set()


@in_a_small_site
def test_an_owner_sees_no_operator_console() -> None:
    found = keys(request_as(Role.OWNER))
    assert "operator" not in found
    assert {"campaigns", "audience", "settings"} <= found


@in_a_small_site
def test_an_operator_without_a_workspace_sees_only_the_console() -> None:
    assert keys(request_as(None, operator=True)) == {"operator"}


@in_a_small_site
def test_an_analyst_is_not_shown_the_audit_log() -> None:
    sections = navigation_for(request_as(Role.ANALYST), "settings")
    names = {entry.name for section in sections for entry in section.entries}
    assert "audit-list" not in names
    assert "reports-list" in names


@in_a_small_site
def test_rehearsal_shows_in_demo_mode_only() -> None:
    with override_settings(DEMO=False):
        assert "rehearsal" not in keys(request_as(Role.OWNER))
    with override_settings(DEMO=True):
        assert "rehearsal" in keys(request_as(Role.OWNER))


@in_a_small_site
def test_the_page_that_is_open_is_marked_and_no_other() -> None:
    path = reverse("lists-list")
    sections = navigation_for(request_as(Role.OWNER, path=path), "audience")
    current = [e.name for section in sections for e in section.entries if e.current]
    assert current == ["lists-list"]
    assert [section.key for section in sections if section.current] == ["audience"]


@in_a_small_site
def test_a_page_below_an_entry_marks_that_entry() -> None:
    path = reverse("imports-list") + "imp_x/"
    sections = navigation_for(request_as(Role.OWNER, path=path))
    current = [e.name for section in sections for e in section.entries if e.current]
    assert current == ["imports-list"]
