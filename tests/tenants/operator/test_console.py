"""The operator console: nobody else finds it; what happens there stands in an audit log."""

from __future__ import annotations

import io
import sys

import pytest
from django.core import mail
from django.core.management import CommandError, call_command
from django.test import Client

from tenants.accounts.models import User
from tenants.audit.models import AuditEntry
from tenants.directory.models import Invitation, Tenant
from tenants.directory.permissions import Role
from tenants.directory.services import get_or_create_system_tenant
from tests import make
from tests.cast import Cast

PAGES = ["/operator/", "/operator/tenants/new", "/operator/ips/", "/operator/ips/pools/new"]


@pytest.mark.parametrize("path", PAGES)
def test_for_everyone_else_it_does_not_exist(
    alice: Client, visitor: Client, operator: Client, path: str
) -> None:
    assert alice.get(path).status_code == 404
    assert visitor.get(path).status_code == 404
    assert operator.get(path).status_code == 200


def test_a_tenant_is_made_and_its_owner_invited(operator: Client) -> None:
    fields = {"name": "Initech", "owner_email": "peter@initech.example"}
    assert operator.post("/operator/tenants/new", fields).status_code == 302
    tenant = Tenant.objects.get(slug="initech")
    row = Invitation.unscoped.get()
    assert (row.tenant_id, row.role) == (tenant.pk, Role.OWNER)
    assert mail.outbox[-1].to == ["peter@initech.example"]
    entry = AuditEntry.unscoped.get(tenant=tenant, action="directory.create_tenant")
    assert entry.actor_label == "Operator olga@mailwright.test"
    assert entry.ip_address == "127.0.0.1"


@pytest.mark.parametrize("change", [{"name": "  "}, {"owner_email": "nobody"}])
def test_bad_input_makes_no_tenant(operator: Client, change: dict[str, str]) -> None:
    fields = {"name": "Initech", "owner_email": "peter@initech.example", **change}
    assert operator.post("/operator/tenants/new", fields).status_code == 422
    assert not Tenant.objects.filter(slug="initech").exists()


def test_two_tenants_of_one_name_get_two_slugs(operator: Client) -> None:
    for number in (1, 2):
        fields = {"name": "System", "owner_email": f"p{number}@initech.example"}
        assert operator.post("/operator/tenants/new", fields).status_code == 302
    assert set(Tenant.objects.values_list("slug", flat=True)) >= {"system-2", "system-3"}


def test_a_tenant_is_suspended_with_a_reason_and_back(operator: Client, cast: Cast) -> None:
    path = f"/operator/tenants/{cast.acme.public_id}"
    assert operator.post(f"{path}/suspend", {"reason": ""}).status_code == 422
    assert operator.post(f"{path}/suspend", {"reason": "Spam trap hits"}).status_code == 302
    cast.acme.refresh_from_db()
    assert (cast.acme.is_active, cast.acme.suspended_reason) == (False, "Spam trap hits")
    page = make.client(cast.alice).get("/settings/").content.decode()
    assert "Spam trap hits" in page
    assert operator.post(f"{path}/suspend", {"reason": "Again"}).status_code == 409
    assert operator.post(f"{path}/unsuspend").status_code == 302
    cast.acme.refresh_from_db()
    assert cast.acme.is_active
    actions = set(AuditEntry.unscoped.filter(tenant=cast.acme).values_list("action", flat=True))
    assert actions >= {"directory.suspend_tenant", "directory.unsuspend_tenant"}


def test_a_member_cannot_suspend(alice: Client, cast: Cast) -> None:
    path = f"/operator/tenants/{cast.globex.public_id}/suspend"
    assert alice.post(path, {"reason": "Rivals"}).status_code == 404
    cast.globex.refresh_from_db()
    assert cast.globex.is_active


def test_a_look_at_a_tenant_is_recorded(operator: Client, cast: Cast) -> None:
    make.domain(cast.acme, "acme.example")
    make.domain(cast.globex, "globex.example")
    page = operator.get(f"/operator/tenants/{cast.acme.public_id}/").content.decode()
    assert "alice@acme.example" in page
    assert "acme.example" in page
    assert "globex" not in page.lower()
    assert AuditEntry.unscoped.filter(tenant=cast.acme, action="directory.view_tenant").exists()


@pytest.mark.parametrize("public_id", ["ten_nothing", "rubbish", "ten_" + "0" * 26])
def test_an_unknown_tenant_is_not_found(operator: Client, public_id: str) -> None:
    assert operator.get(f"/operator/tenants/{public_id}/").status_code == 404


def test_the_list_is_searched_and_filtered(operator: Client, cast: Cast) -> None:
    get_or_create_system_tenant()
    page = operator.get("/operator/?q=acm").content.decode()
    assert "Acme" in page
    assert "Globex" not in page
    Tenant.objects.filter(pk=cast.globex.pk).update(status="suspended")
    page = operator.get("/operator/?status=suspended").content.decode()
    assert "Globex" in page
    assert "Acme" not in page


def test_the_command_makes_an_operator(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("nine quiet herons\n"))
    call_command("create_operator", "ops@mailwright.test", stdout=io.StringIO())
    person = User.objects.get(email="ops@mailwright.test")
    assert person.is_operator
    assert person.check_password("nine quiet herons")


def test_the_command_raises_a_member(cast: Cast) -> None:
    call_command("create_operator", "Alice@acme.example", stdout=io.StringIO())
    cast.alice.refresh_from_db()
    assert cast.alice.is_operator
    assert cast.alice.check_password(make.PASSWORD)


def test_the_command_refuses_a_weak_password(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("short\n"))
    with pytest.raises(CommandError, match="too short"):
        call_command("create_operator", "ops@mailwright.test")
    with pytest.raises(CommandError, match="not an email address"):
        call_command("create_operator", "ops")


def test_an_operator_without_a_workspace_lands_in_the_console(operator: Client) -> None:
    assert operator.get("/")["Location"] == "/operator/"


def test_a_tenants_weight_is_set_and_recorded(operator: Client, cast: Cast) -> None:
    path = f"/operator/tenants/{cast.acme.public_id}/weight"
    assert operator.post(path, {"weight": "5"}).status_code == 302
    cast.acme.refresh_from_db()
    assert cast.acme.weight == 5
    entry = AuditEntry.unscoped.get(tenant=cast.acme, action="directory.set_weight")
    assert entry.detail == {"weight": [1, 5]}


@pytest.mark.parametrize("weight", ["0", "101", "-1", "much", ""])
def test_a_weight_is_one_to_a_hundred(operator: Client, cast: Cast, weight: str) -> None:
    path = f"/operator/tenants/{cast.acme.public_id}/weight"
    assert operator.post(path, {"weight": weight}).status_code == 422
    cast.acme.refresh_from_db()
    assert cast.acme.weight == 1


def test_a_member_sets_no_weight(alice: Client, cast: Cast) -> None:
    path = f"/operator/tenants/{cast.acme.public_id}/weight"
    assert alice.post(path, {"weight": "5"}).status_code == 404
