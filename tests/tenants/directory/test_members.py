"""Members: roles, the last owner, leaving; what an admin cannot do to owners."""

from __future__ import annotations

import pytest
from django.test import Client

from esp.lib.errors import Conflict, InvalidInput, PermissionMissing
from tenants.audit.models import AuditEntry
from tenants.directory.models import Membership
from tenants.directory.permissions import Role
from tenants.directory.services import change_role, remove_member
from tenants.scoping.context import scope
from tests import make
from tests.cast import Cast


def member(cast: Cast, email: str) -> Membership:
    return Membership.unscoped.select_related("user").get(user__email=email)


@pytest.fixture
def dora(cast: Cast) -> Membership:
    """An admin at Acme."""
    return make.membership(make.user("dora@acme.example"), cast.acme, Role.ADMIN)


def test_an_owner_changes_a_role(alice: Client, cast: Cast) -> None:
    bob = member(cast, cast.bob.email)
    answer = alice.post(f"/settings/members/{bob.public_id}/role", {"role": "marketer"})
    assert answer.status_code == 302
    bob.refresh_from_db()
    assert bob.role == Role.MARKETER
    entry = AuditEntry.unscoped.get(action="directory.change_role")
    assert entry.detail == {"before": "analyst", "after": "marketer"}
    assert entry.ip_address == "127.0.0.1"


def test_it_refuses_another_tenants_member(charlie: Client, cast: Cast) -> None:
    bob = member(cast, cast.bob.email)
    for verb in ("role", "remove"):
        answer = charlie.post(f"/settings/members/{bob.public_id}/{verb}", {"role": "owner"})
        assert answer.status_code == 404
    assert member(cast, cast.bob.email).role == Role.ANALYST


def test_it_refuses_a_member_without_the_right(bob: Client, cast: Cast) -> None:
    own = member(cast, cast.bob.email)
    for verb in ("role", "remove"):
        path = f"/settings/members/{own.public_id}/{verb}"
        assert bob.post(path, {"role": "owner"}).status_code == 403
    assert bob.get("/settings/members/").status_code == 403
    assert member(cast, cast.bob.email).role == Role.ANALYST


@pytest.mark.parametrize("role", ["", "emperor", "owner\x00"])
def test_an_unknown_role_is_refused(alice: Client, cast: Cast, role: str) -> None:
    bob = member(cast, cast.bob.email)
    answer = alice.post(f"/settings/members/{bob.public_id}/role", {"role": role})
    assert answer.status_code == 422


def test_the_last_owner_stays(alice: Client, cast: Cast) -> None:
    own = member(cast, cast.alice.email)
    answer = alice.post(f"/settings/members/{own.public_id}/role", {"role": "analyst"})
    assert answer.status_code == 409
    assert "A workspace needs an owner" in answer.content.decode()
    assert alice.post("/settings/leave").status_code == 409
    assert member(cast, cast.alice.email).role == Role.OWNER


def test_an_admin_neither_makes_nor_changes_owners(cast: Cast, dora: Membership) -> None:
    admin = make.actor(dora.user, cast.acme, Role.ADMIN)
    alice, bob = member(cast, cast.alice.email), member(cast, cast.bob.email)
    make.membership(make.user(), cast.acme, Role.OWNER)  # so that it is not about the last one
    with scope(cast.acme.pk):
        for action in (
            lambda: change_role(actor=admin, membership=alice, role=Role.ANALYST),
            lambda: change_role(actor=admin, membership=bob, role=Role.OWNER),
            lambda: change_role(actor=admin, membership=dora, role=Role.OWNER),
            lambda: remove_member(actor=admin, membership=alice),
        ):
            with pytest.raises(PermissionMissing):
                action()
        change_role(actor=admin, membership=bob, role=Role.DEVELOPER)
        remove_member(actor=admin, membership=bob)
    assert not Membership.unscoped.filter(user=cast.bob).exists()


def test_everyone_may_leave(bob: Client, cast: Cast) -> None:
    assert bob.post("/settings/leave").status_code == 302
    assert not Membership.unscoped.filter(user=cast.bob).exists()
    assert bob.get("/settings/").status_code == 403


def test_services_name_what_is_wrong(cast: Cast) -> None:
    with scope(cast.acme.pk):
        own = member(cast, cast.alice.email)
        with pytest.raises(InvalidInput):
            change_role(actor=cast.alice_actor, membership=own, role="emperor")
        with pytest.raises(Conflict):
            remove_member(actor=cast.alice_actor, membership=own)
