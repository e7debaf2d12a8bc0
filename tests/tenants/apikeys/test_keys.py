"""API keys: shown once, scoped, revoked at once."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from esp.kit.valkey import BucketAnswer
from tenants.apikeys import authentication, services
from tenants.apikeys.models import ApiKey
from tenants.apikeys.services import read_key
from tenants.directory.actor import Actor
from tenants.directory.permissions import Role
from tenants.scoping.context import scope, tenant_id_or_none
from tests import make
from tests.cast import Cast


def actor_for_key(text: str) -> Actor | None:
    key = read_key(text)
    if key is None:
        return None
    with scope(key.tenant_id):
        return services.actor_for_key(key)


GOOD = {"name": "Web shop", "scopes": ["messages:send", "messages:read"]}


def test_a_key_is_shown_once_and_works(alice: Client, cast: Cast) -> None:
    answer = alice.post("/developers/keys/new", GOOD)
    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    text = re.search(r"mw_[\w-]+", answer.content.decode())
    assert text is not None
    actor = actor_for_key(text.group())
    assert actor is not None
    assert actor.tenant_id == cast.acme.pk
    assert actor.permissions == {"messages:send", "messages:read"}
    assert ApiKey.unscoped.get().last_used_at is not None
    assert text.group() not in alice.get("/developers/keys/").content.decode()
    assert text.group().split("_", 2)[2] not in str(ApiKey.unscoped.values().get())


def test_a_revoked_key_is_refused(alice: Client, cast: Cast) -> None:
    key, text = make.api_key(cast.acme)
    assert alice.post(f"/developers/keys/{key.public_id}/revoke").status_code == 302
    assert actor_for_key(text) is None


def test_it_refuses_another_tenants_key(charlie: Client, cast: Cast) -> None:
    key, text = make.api_key(cast.acme, name="Secret name")
    assert charlie.post(f"/developers/keys/{key.public_id}/revoke").status_code == 404
    assert "Secret name" not in charlie.get("/developers/keys/").content.decode()
    assert actor_for_key(text) is not None


def test_it_refuses_a_member_without_the_right(bob: Client, cast: Cast) -> None:
    key, text = make.api_key(cast.acme)
    assert bob.get("/developers/keys/").status_code == 403
    assert bob.post("/developers/keys/new", GOOD).status_code == 403
    assert bob.post(f"/developers/keys/{key.public_id}/revoke").status_code == 403
    assert actor_for_key(text) is not None


@pytest.mark.parametrize(
    "change", [{"name": ""}, {"scopes": []}, {"scopes": ["root:all"]}, {"scopes": ["keys:write"]}]
)
def test_bad_input_makes_no_key(alice: Client, change: dict[str, object]) -> None:
    answer = alice.post("/developers/keys/new", {**GOOD, **change})
    assert answer.status_code == 422
    assert not ApiKey.unscoped.exists()


def test_a_developer_gives_no_right_they_lack(cast: Cast) -> None:
    dora = make.user()
    make.membership(dora, cast.acme, Role.DEVELOPER)
    answer = make.client(dora).post(
        "/developers/keys/new", {"name": "Sly", "scopes": ["audience:write"]}
    )
    assert answer.status_code == 422
    assert not ApiKey.unscoped.exists()


@pytest.mark.parametrize("text", ["", "mw_", "mw_x_y", "Bearer", "mw_" + "0" * 26 + "_x\x00"])
def test_a_text_that_is_no_key_is_none(db: None, text: str) -> None:
    assert actor_for_key(text) is None


def test_a_key_opens_no_tenant_but_its_own(cast: Cast) -> None:
    _, text = make.api_key(cast.acme)
    _, other = make.api_key(cast.globex)
    forged = "_".join([*other.split("_", 2)[:2], text.split("_", 2)[2]])
    assert actor_for_key(forged) is None
    answer = make.ApiClient(forged).get("/api/v1/messages")
    assert answer.status_code == 401


def test_a_refused_key_leaves_no_scope_behind(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    key, text = make.api_key(cast.acme)
    ApiKey.unscoped.filter(pk=key.pk).update(revoked_at=timezone.now())
    seen: list[uuid.UUID | None] = []
    take = authentication.take

    def watched(*args: Any, **kwargs: Any) -> BucketAnswer:
        seen.append(tenant_id_or_none())
        return take(*args, **kwargs)

    monkeypatch.setattr(authentication, "take", watched)
    assert make.ApiClient(text).get("/api/v1/messages").status_code == 401
    assert seen == [None]
