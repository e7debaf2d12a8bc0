"""The scope: Python refuses to ask without a tenant, and puts back what was before."""

from __future__ import annotations

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from tenants.directory.models import Membership
from tenants.scoping.context import (
    ScopeMissing,
    current_tenant_id,
    joined_scope,
    scope,
    tenant_id_or_none,
)
from tests import make
from tests.cast import Cast


def database_setting() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('app.tenant_id', true)")
        return cursor.fetchone()[0] or ""


def _delete_and_fail() -> None:
    Membership.objects.all().delete()
    raise ValueError("boom")


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


def test_a_scope_of_the_same_tenant_undoes_its_own_part(cast: Cast) -> None:
    with scope(cast.acme.pk):
        with pytest.raises(ValueError, match="boom"), scope(cast.acme.pk):
            _delete_and_fail()
        assert database_setting() == str(cast.acme.pk)
        assert Membership.objects.count() == 2


def test_the_database_is_told_again_after_another_tenant(cast: Cast) -> None:
    with scope(cast.acme.pk):
        with scope(cast.globex.pk), scope(cast.acme.pk):
            assert database_setting() == str(cast.acme.pk)
        with scope(cast.acme.pk):
            assert database_setting() == str(cast.acme.pk)


@pytest.mark.django_db(transaction=True)
def test_a_scope_tells_the_database_once(cast: Cast) -> None:
    asked = CaptureQueriesContext(connection)
    with asked, scope(cast.acme.pk), joined_scope(cast.acme.pk):
        pass
    told = [query["sql"] for query in asked if "set_config" in query["sql"]]
    assert len(told) == 1
    assert not [query for query in asked if "SAVEPOINT" in query["sql"]]


@pytest.mark.django_db(transaction=True)
def test_a_joined_scope_opens_one_where_there_is_none(cast: Cast) -> None:
    with joined_scope(cast.acme.pk):
        assert current_tenant_id() == cast.acme.pk
        assert database_setting() == str(cast.acme.pk)
    with scope(cast.globex.pk), joined_scope(cast.acme.pk):
        assert database_setting() == str(cast.acme.pk)
    assert tenant_id_or_none() is None


def test_a_joined_scope_leaves_an_error_to_the_transaction(cast: Cast) -> None:
    with scope(cast.acme.pk):
        with pytest.raises(ValueError, match="boom"), joined_scope(cast.acme.pk):
            _delete_and_fail()
        assert not transaction.get_rollback()
        assert Membership.objects.count() == 0
