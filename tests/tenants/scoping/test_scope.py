"""The scope: Python refuses to ask without a tenant, and puts back what was before."""

from __future__ import annotations

import pytest
from django.db import connection

from tenants.directory.models import Membership
from tenants.scoping.context import ScopeMissing, current_tenant_id, scope, tenant_id_or_none
from tests import make
from tests.cast import Cast


def database_setting() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('app.tenant_id', true)")
        return cursor.fetchone()[0] or ""


def test_a_query_without_a_scope_raises(cast: Cast) -> None:
    with pytest.raises(ScopeMissing):
        Membership.objects.count()


def test_a_row_without_a_tenant_is_not_saved_outside_a_scope(cast: Cast) -> None:
    with pytest.raises(ScopeMissing):
        Membership(user=cast.alice, role="owner").save()


def test_a_scope_shows_only_its_tenants_rows(cast: Cast) -> None:
    with scope(cast.acme.pk):
        assert set(Membership.objects.values_list("user__email", flat=True)) == {
            "alice@acme.example",
            "bob@acme.example",
        }


def test_a_row_saved_in_a_scope_belongs_to_its_tenant(cast: Cast) -> None:
    person = make.user()
    with scope(cast.globex.pk):
        row = Membership(user=person, role="analyst")
        row.save()
    assert row.tenant_id == cast.globex.pk


def test_leaving_a_scope_restores_the_one_before(cast: Cast) -> None:
    with scope(cast.acme.pk):
        with scope(cast.globex.pk):
            assert current_tenant_id() == cast.globex.pk
            assert database_setting() == str(cast.globex.pk)
        assert current_tenant_id() == cast.acme.pk
        assert database_setting() == str(cast.acme.pk)
    assert tenant_id_or_none() is None
    assert database_setting() == ""


def test_an_error_inside_a_scope_restores_the_one_before(cast: Cast) -> None:
    with scope(cast.acme.pk):
        with pytest.raises(ValueError, match="boom"), scope(cast.globex.pk):
            raise ValueError("boom")
        assert current_tenant_id() == cast.acme.pk
        assert database_setting() == str(cast.acme.pk)
        assert Membership.objects.count() == 2
