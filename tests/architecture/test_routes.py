"""Every address stands in the permission matrix, and holds to it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from esp.lib.ids import to_public
from tenants.directory.permissions import PERMISSIONS, ROLE_PERMISSIONS, Role
from tests import make
from tests.cast import Cast

KINDS = {"public", "person", "member", "operator"}


@dataclass(frozen=True)
class Route:
    """One address: its pattern as a path with invented parameters, its view, what it needs."""

    path: str
    name: str
    view: Any

    @property
    def needs(self) -> str | None:
        return getattr(self.view, "needs", None)

    @property
    def is_api(self) -> bool:
        return self.path.startswith("/api/")


def walk(patterns: list[Any], prefix: str = "/") -> Iterator[Route]:
    for item in patterns:
        text = prefix + str(item.pattern)
        if isinstance(item, URLResolver):
            yield from walk(item.url_patterns, text)
        elif isinstance(item, URLPattern):
            yield Route(path=fill(item, prefix), name=item.name or "", view=item.callback)


def fill(item: URLPattern, prefix: str) -> str:
    """Return an address with invented parameters: well-formed ids of things that are not there."""
    text = prefix + str(item.pattern)
    for name, converter in item.pattern.converters.items():
        kind = type(converter).__name__
        value = {"IntConverter": "1", "UUIDConverter": str(uuid.uuid4())}.get(
            kind, to_public("x", uuid.UUID(int=1))
        )
        for shown in (f"<{name}>", f"<str:{name}>", f"<int:{name}>", f"<uuid:{name}>"):
            text = text.replace(shown, value)
        text = text.replace(f"<slug:{name}>", value).replace(f"<path:{name}>", value)
    return text


ROUTES = list(walk(get_resolver().url_patterns))
PAGES = [route for route in ROUTES if not route.is_api]
GUARDED = [route for route in PAGES if route.needs in PERMISSIONS]


def test_every_address_says_what_it_needs() -> None:
    for route in PAGES:
        assert route.needs in KINDS or route.needs in PERMISSIONS, (route.path, route.needs)


def test_every_api_view_names_a_scope_for_each_method() -> None:
    for route in ROUTES:
        view = getattr(route.view, "cls", None) or getattr(route.view, "view_class", None)
        if not route.is_api or view is None or getattr(route.view, "needs", "") == "public":
            continue
        scopes = getattr(view, "scopes", {})
        methods = {
            name for name in ("get", "post", "put", "patch", "delete") if hasattr(view, name)
        }
        if "schema" in route.name:
            continue
        assert {name.lower() for name in scopes} >= methods, route.path
        assert set(scopes.values()) <= set(PERMISSIONS), route.path


def test_names_are_unique() -> None:
    names = [route.name for route in ROUTES if route.name]
    assert sorted(names) == sorted(set(names))


def refused(client: Client, path: str) -> set[int]:
    """Return how both verbs are answered; one that the address does not take says nothing."""
    return {client.get(path).status_code, client.post(path).status_code} - {405}


def test_a_visitor_is_sent_to_sign_in(visitor: Client) -> None:
    for route in PAGES:
        if route.needs == "public":
            continue
        expected = {404} if route.needs == "operator" else {302}
        assert refused(visitor, route.path) == expected, route.path


def test_a_member_without_the_right_is_refused_everywhere(cast: Cast) -> None:
    """Each role tries each page that it has no right to, by GET and by POST."""
    tried = 0
    for role in Role:
        person = make.user()
        make.membership(person, cast.acme, role)
        client = make.client(person)
        for route in GUARDED:
            if route.needs in ROLE_PERMISSIONS[role]:
                continue
            assert refused(client, route.path) == {403}, (role, route.path)
            tried += 1
    assert tried > 10


def test_a_member_with_the_right_gets_past_the_gate(alice: Client) -> None:
    for route in GUARDED:
        assert alice.get(route.path).status_code != 403, route.path


def test_things_that_are_not_there_are_never_our_error(alice: Client, operator: Client) -> None:
    """Every page with an invented id: a clear answer, by GET and by POST, never a 500."""
    for route in PAGES:
        client = operator if route.needs == "operator" else alice
        if route.name == "accounts-sign-out":
            continue
        for answer in (client.get(route.path), client.post(route.path)):
            assert answer.status_code < 500, route.path


@pytest.mark.parametrize("role", list(Role))
def test_the_matrix_gives_no_unknown_permission(role: Role) -> None:
    assert ROLE_PERMISSIONS[role] <= set(PERMISSIONS)
