"""Invitations: mail, link, accepting as someone new or someone known; dead links say so."""

from __future__ import annotations

import datetime as dt
import uuid

import pytest
from django.core import mail
from django.test import Client
from django.utils import timezone

from tenants.accounts.models import User
from tenants.directory.models import Invitation, Membership
from tenants.directory.permissions import Role
from tests import make
from tests.cast import Cast

NEW = {"name": "Dora Dean", "password": "nine quiet herons"}


def invite(client: Client, email: str, role: str = "marketer"):
    return client.post("/settings/members/invite", {"email": email, "role": role})


def last_link() -> str:
    word = next(word for word in mail.outbox[-1].body.split() if "/invitations/" in word)
    return "/" + word.split("/", 3)[3]


def test_a_new_person_joins_by_the_link(alice: Client, visitor: Client, cast: Cast) -> None:
    assert invite(alice, "dora@acme.example").status_code == 302
    assert mail.outbox[-1].subject == "Acme invites you to Mailwright"
    page = visitor.get(last_link())
    assert page.status_code == 200
    assert "Join Acme" in page.content.decode()
    assert visitor.post(last_link(), NEW).status_code == 302
    joined = Membership.unscoped.get(user__email="dora@acme.example")
    assert (joined.tenant_id, joined.role) == (cast.acme.pk, Role.MARKETER)
    assert visitor.get("/settings/").status_code == 200  # signed in, in this workspace


def test_a_known_person_joins_a_second_workspace(
    alice: Client, charlie: Client, cast: Cast
) -> None:
    invite(alice, cast.charlie.email.upper())
    assert Client().get(last_link()).content.decode().count("Sign in to accept") == 1
    assert charlie.post(last_link()).status_code == 302
    assert Membership.unscoped.filter(user=cast.charlie).count() == 2
    assert "Acme" in charlie.get("/settings/").content.decode()
    back = charlie.post("/workspace/switch", {"tenant": str(cast.globex.pk)})
    assert back.status_code == 302
    assert "Globex" in charlie.get("/settings/").content.decode()


def test_someone_else_cannot_use_the_link(alice: Client, charlie: Client, cast: Cast) -> None:
    invite(alice, "dora@acme.example")
    answer = charlie.post(last_link())
    assert answer.status_code == 409
    assert "This invitation is for dora@acme.example" in answer.content.decode()
    assert Membership.unscoped.filter(user=cast.charlie).count() == 1


def test_a_link_works_once(alice: Client, visitor: Client) -> None:
    invite(alice, "dora@acme.example")
    visitor.post(last_link(), NEW)
    again = Client().post(last_link(), NEW)
    assert again.status_code == 404
    assert "no longer works" in again.content.decode()
    assert User.objects.filter(email="dora@acme.example").count() == 1


def test_a_weak_password_is_refused_and_nothing_is_lost(alice: Client, visitor: Client) -> None:
    invite(alice, "dora@acme.example")
    answer = visitor.post(last_link(), {"name": "Dora", "password": "short"})
    assert answer.status_code == 422
    assert "too short" in answer.content.decode()
    assert not User.objects.filter(email="dora@acme.example").exists()
    assert visitor.post(last_link(), NEW).status_code == 302


def test_an_expired_link_says_so(alice: Client, visitor: Client) -> None:
    invite(alice, "dora@acme.example")
    Invitation.unscoped.update(expires_at=timezone.now() - dt.timedelta(minutes=1))
    assert visitor.get(last_link()).status_code == 404


@pytest.mark.parametrize("kind", ["rubbish", "no secret", "other tenant", "long", "nul"])
def test_a_forged_link_is_no_error_of_ours(
    alice: Client, visitor: Client, cast: Cast, kind: str
) -> None:
    invite(alice, "dora@acme.example")
    tenant, secret = last_link().removeprefix("/invitations/").split("_", 1)
    from esp.lib.ids import encode

    token = {
        "rubbish": "rubbish",
        "no secret": f"{tenant}_",
        "other tenant": f"{encode(cast.globex.pk)}_{secret}",
        "long": f"{encode(uuid.uuid4())}_{'x' * 5000}",
        "nul": f"{tenant}_%00",
    }[kind]
    for answer in (visitor.get(f"/invitations/{token}"), visitor.post(f"/invitations/{token}")):
        assert answer.status_code == 404
        assert "invitation cannot be accepted" in answer.content.decode()


def test_inviting_again_ends_the_old_link(alice: Client, visitor: Client) -> None:
    invite(alice, "dora@acme.example")
    old = last_link()
    invite(alice, "Dora@acme.example", "analyst")
    assert Invitation.unscoped.count() == 1
    assert visitor.get(old).status_code == 404
    assert visitor.get(last_link()).status_code == 200


def test_taking_back_ends_the_link(alice: Client, visitor: Client) -> None:
    invite(alice, "dora@acme.example")
    row = Invitation.unscoped.get()
    assert alice.post(f"/settings/invitations/{row.public_id}/revoke").status_code == 302
    assert visitor.get(last_link()).status_code == 404


def test_it_refuses_another_tenants_invitation(alice: Client, charlie: Client) -> None:
    invite(alice, "dora@acme.example")
    row = Invitation.unscoped.get()
    assert charlie.post(f"/settings/invitations/{row.public_id}/revoke").status_code == 404
    assert Invitation.unscoped.count() == 1


def test_it_refuses_a_member_without_the_right(bob: Client) -> None:
    assert invite(bob, "dora@acme.example").status_code == 403
    assert mail.outbox == []


@pytest.mark.parametrize(
    ("email", "status", "words"),
    [
        ("bob@acme.example", 409, "is a member already"),
        ("not-an-address", 422, "valid email"),
        ("a@b.example\nBcc: x@y.example", 422, "valid email"),
        ("", 422, "required"),
    ],
)
def test_bad_input_is_said(alice: Client, cast: Cast, email: str, status: int, words: str) -> None:
    answer = invite(alice, email)
    assert answer.status_code == status
    assert words in answer.content.decode()
    assert mail.outbox == []


def test_a_workspace_name_cannot_add_headers(alice: Client, cast: Cast) -> None:
    cast.acme.name = "Acme\r\nBcc: victim@example.com"
    cast.acme.save()
    invite(alice, "dora@acme.example")
    assert mail.outbox[-1].subject == "Acme Bcc: victim@example.com invites you to Mailwright"
    assert "Bcc" not in mail.outbox[-1].message()


def test_an_admin_invites_no_owner(cast: Cast) -> None:
    dora = make.user("dora@acme.example")
    make.membership(dora, cast.acme, Role.ADMIN)
    client = make.client(dora)
    assert invite(client, "eve@acme.example", "owner").status_code == 403
    assert invite(client, "eve@acme.example", "admin").status_code == 302
