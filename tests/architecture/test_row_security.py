"""No tenant's table without row-level security."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.db import connection, models

from tenants.scoping.models import TenantModel

OURS = ("tenants", "deliverability", "sending")
# Tables that hold no tenant's rows, each with the reason.
SHARED = {
    "tenants_tenant": "an operator lists tenants; a row says nothing of what a tenant holds",
    "tenants_user": "a person belongs to no tenant",
    "deliverability_ippool": "the operator's",
    "deliverability_ipaddress": "the operator's",
    "deliverability_ipcap": "the operator's",
    "deliverability_deliverynode": "the operator's",
    "deliverability_alert": "the operator's",
    "deliverability_mtastspolicy": "what domains publish",
    "deliverability_tlsrequirement": "the operator's",
    "deliverability_tlsresult": "counts of sessions by receivers' domains",
    "sending_lanestate": "lanes are shared by tenants; addresses are taken out of replies",
    "sending_limitoverride": "the operator's",
    "sending_shapingaction": "lanes are shared by tenants; addresses are taken out of replies",
    "sending_route": "the operator's; secrets are encrypted",
    "sending_routestat": "the operator's",
    "sending_routewebhook": "the operator's; secrets are encrypted",
    "sending_routeset": "the operator's",
    "sending_routesetmember": "the operator's",
    "sending_defaultroute": "the operator's",
}


def own_models() -> list[type[models.Model]]:
    found = []
    for label in OURS:
        found += list(apps.get_app_config(label).get_models(include_auto_created=True))
    return found


def secured_tables() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE relrowsecurity AND relkind IN ('r','p')")
        return {name for (name,) in cursor.fetchall()}


def policed_tables() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_policies")
        return {name for (name,) in cursor.fetchall()}


@pytest.mark.django_db
def test_every_tenant_table_has_row_security_and_a_policy() -> None:
    tables = {model._meta.db_table for model in own_models() if issubclass(model, TenantModel)}
    assert len(tables) > 20
    assert tables - secured_tables() == set()
    assert tables - policed_tables() == set()


@pytest.mark.django_db
def test_every_other_table_is_secured_or_shared_for_a_reason() -> None:
    tables = {model._meta.db_table for model in own_models()}
    assert tables - secured_tables() == set(SHARED)


@pytest.mark.django_db
def test_every_partition_is_secured() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT child.relname FROM pg_inherits "
            "JOIN pg_class child ON child.oid = inhrelid WHERE child.relkind = 'r' "
            "AND NOT child.relrowsecurity"
        )
        assert cursor.fetchall() == []


@pytest.mark.django_db
def test_the_webs_role_owns_nothing_and_bypasses_nothing() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT rolsuper, rolbypassrls, rolcreaterole FROM pg_roles "
            "WHERE rolname = 'mailwright_app'"
        )
        assert cursor.fetchall() == [(False, False, False)]
        cursor.execute("SELECT count(*) FROM pg_tables WHERE tableowner = 'mailwright_app'")
        assert cursor.fetchone() == (0,)


def test_every_model_with_a_tenant_has_the_guarding_manager() -> None:
    for model in own_models():
        names = {field.name for field in model._meta.get_fields()}
        if "tenant" in names and not model._meta.auto_created:
            assert issubclass(model, TenantModel), model
            assert model._default_manager.name == "objects"
