"""Another tenant's object is a 404, at every address that names one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from esp.lib.ids import to_public
from sending.audience.models import AttributeDefinition, Import, SignupForm
from sending.content.models import CompiledVersion
from tenants.directory.models import Invitation, Membership
from tenants.directory.permissions import Role
from tests import make
from tests.cast import Cast
from tests.sending.campaigns.conftest import make_world

# Parameters that name no object: one value of each will do.
PLAIN = {"card": "to"}


@dataclass(frozen=True)
class Address:
    """A pattern with its parameters, and the view behind it."""

    text: str
    names: tuple[str, ...]
    route: str
    view: Any


def addresses(patterns: list[Any], prefix: str = "/") -> Iterator[Address]:
    for item in patterns:
        text = prefix + str(item.pattern)
        if isinstance(item, URLResolver):
            yield from addresses(item.url_patterns, text)
        elif isinstance(item, URLPattern) and item.pattern.converters:
            yield Address(text, tuple(item.pattern.converters), item.name or "", item.callback)


@pytest.fixture
def ids(cast: Cast) -> dict[str, str]:
    """The public id of one object of Acme's for each parameter's name."""
    world = make_world(cast)
    campaign = world.ready()
    contact = make.contact(cast.acme)
    content = make.message_content(world.sender.domain)
    message = make.message(make.batch(cast.acme), content)
    key, _ = make.api_key(cast.acme)
    member = Membership.unscoped.get(user=cast.bob)
    attribute = AttributeDefinition.unscoped.create(tenant=cast.acme, key="size", label="Size")
    upload = Import.unscoped.create(tenant=cast.acme, filename="a.csv", path="none", size_bytes=1)
    form = SignupForm.unscoped.create(
        tenant=cast.acme, contact_list=world.news, sender=world.sender, title="Join"
    )
    invitation = Invitation.unscoped.create(
        tenant=cast.acme,
        email="dora@acme.example",
        role=Role.ANALYST,
        secret_hash="x",
        expires_at=timezone.now() + dt.timedelta(days=1),
    )
    version = CompiledVersion.unscoped.filter(tenant=cast.acme).latest("id")
    return PLAIN | {
        "attribute_id": to_public("att", attribute.pk),
        "import_id": to_public("imp", upload.pk),
        "form_id": form.public_id,
        "invitation_id": to_public("inv", invitation.pk),
        "version_id": to_public("cpl", version.pk),
        "campaign_id": campaign.public_id,
        "contact_id": contact.public_id,
        "list_id": world.news.public_id,
        "template_id": make.template(cast.acme).public_id,
        "message_id": message.public_id,
        "batch_id": to_public("bat", message.batch_id),
        "domain_id": world.sender.domain.public_id,
        "sender_id": world.sender.public_id,
        "key_id": key.public_id,
        "member_id": member.public_id,
        "suppression_id": make.suppression(cast.acme, "x@y.example").public_id,
    }


def fill(address: Address, ids: dict[str, str]) -> str | None:
    """Return the address with Acme's ids, or None when a parameter is no object of a tenant's."""
    text = address.text
    for name in address.names:
        if name not in ids:
            return None
        for kind in ("", "str:", "slug:"):
            text = text.replace(f"<{kind}{name}>", ids[name])
    return None if "<" in text else text


def test_charlie_finds_nothing_of_acmes(
    charlie: Client, globex_api: make.ApiClient, ids: dict[str, str]
) -> None:
    """Charlie owns Globex, may do everything there, and has the right addresses."""
    tried, left = set(), set()
    for address in addresses(get_resolver().url_patterns):
        if getattr(address.view, "needs", "") in {"operator", "public", "person"}:
            continue
        path = fill(address, ids)
        if path is None:
            left.add((address.route, address.text))
            continue
        for verb in ("get", "post", "put", "patch", "delete"):
            client = globex_api if path.startswith("/api/") else charlie
            data = {} if verb != "get" else None
            answer = getattr(client, verb)(path, data)
            # What is refused before the object is looked for tells nothing of it either.
            assert answer.status_code in {404, 405}, (verb, path, answer.status_code)
        tried.add(address.route)
    assert left == set()  # a new parameter needs an object of Acme's above
    assert len(tried) > 40


def test_the_same_addresses_work_for_their_owner(alice: Client, ids: dict[str, str]) -> None:
    """The ids above are real: else a 404 would prove nothing."""
    found = 0
    for address in addresses(get_resolver().url_patterns):
        path = fill(address, ids)
        if path is None or path.startswith(("/api/", "/operator/", "/rehearsal/")):
            continue
        needs = getattr(address.view, "needs", "")
        if needs == "public" or path.endswith(".csv") or "/imports/" in path:
            continue  # the import's file is not there, and a draft has no report
        status = alice.get(path).status_code
        assert status != 404, path
        found += status == 200
    assert found > 10
