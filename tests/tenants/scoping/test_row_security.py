"""The second wall: what the web's database role can and cannot do, by raw SQL and by managers."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import DatabaseError, connection, transaction

from sending.audience.models import Contact
from tenants.apikeys.models import ApiKey
from tenants.directory.models import Invitation, Membership
from tenants.scoping.context import identify_user, scope
from tests import make
from tests.cast import Cast


@contextmanager
def as_web() -> Iterator[None]:
    """Run as the web's role, as every request does."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute('SET LOCAL ROLE "mailwright_app"')
        yield
        with connection.cursor() as cursor:
            cursor.execute("RESET ROLE")


def run(sql: str, *values: object) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else [(cursor.rowcount,)]


@pytest.fixture
def people(cast: Cast) -> tuple[Contact, Contact]:
    """A contact of Acme's and one of Globex'."""
    return make.contact(cast.acme), make.contact(cast.globex)


def test_without_a_setting_there_are_no_rows(people: tuple[Contact, Contact]) -> None:
    with as_web():
        for table in ("sending_contact", "tenants_membership", "tenants_auditentry"):
            assert run(f"SELECT count(*) FROM {table}") == [(0,)]
        assert Contact.unscoped.count() == 0


def test_an_unscoped_manager_sees_only_the_tenant_in_scope(
    cast: Cast, people: tuple[Contact, Contact]
) -> None:
    with as_web(), scope(cast.acme.pk):
        assert list(Contact.unscoped.all()) == [people[0]]
        assert run("SELECT id FROM sending_contact") == [(people[0].pk,)]


def test_another_tenants_row_is_neither_changed_nor_removed(
    cast: Cast, people: tuple[Contact, Contact]
) -> None:
    other = people[1].pk
    with as_web(), scope(cast.acme.pk):
        change = "UPDATE sending_contact SET first_name = 'x' WHERE id = %s"
        assert run(change, other) == [(0,)]
        assert run("DELETE FROM sending_contact WHERE id = %s", other) == [(0,)]
        assert Contact.unscoped.filter(pk=other).update(first_name="x") == 0
    people[1].refresh_from_db()
    assert people[1].first_name == ""


def test_a_row_cannot_be_written_for_another_tenant(
    cast: Cast, people: tuple[Contact, Contact]
) -> None:
    with (
        pytest.raises(DatabaseError, match="row-level security"),
        as_web(),
        scope(cast.acme.pk),
    ):
        make.contact(cast.globex)


def test_a_row_cannot_be_moved_to_another_tenant(
    cast: Cast, people: tuple[Contact, Contact]
) -> None:
    with (
        pytest.raises(DatabaseError, match="row-level security"),
        as_web(),
        scope(cast.acme.pk),
    ):
        Contact.unscoped.filter(pk=people[0].pk).update(tenant=cast.globex)


@pytest.mark.parametrize("model", [Membership, Invitation, ApiKey])
def test_every_room_here_is_held(cast: Cast, model: type) -> None:
    with as_web(), scope(cast.globex.pk):
        assert not model.unscoped.filter(tenant=cast.acme).exists()


def test_a_person_reads_their_own_memberships_and_cannot_write_them(cast: Cast) -> None:
    make.membership(cast.bob, cast.globex, "analyst")
    with as_web():
        identify_user(cast.bob.pk)
        seen = Membership.unscoped.filter(user=cast.bob)
        assert {row.tenant_id for row in seen} == {cast.acme.pk, cast.globex.pk}
        assert Membership.unscoped.count() == 2
        assert Membership.unscoped.update(role="owner") == 0


@pytest.mark.django_db(transaction=True)
def test_the_setting_does_not_outlive_its_transaction(cast: Cast) -> None:
    with scope(cast.acme.pk):
        identify_user(cast.alice.pk)
        assert run("SELECT current_setting('app.tenant_id', true)") == [(str(cast.acme.pk),)]
    assert run("SELECT current_setting('app.tenant_id', true)") in ([("",)], [(None,)])
    assert run("SELECT current_setting('app.user_id', true)") in ([("",)], [(None,)])


@pytest.mark.django_db(transaction=True)
def test_the_setting_does_not_outlive_a_transaction_that_failed(cast: Cast) -> None:
    with pytest.raises(DatabaseError), scope(cast.acme.pk):
        run("SELECT 1/0")
    assert run("SELECT current_setting('app.tenant_id', true)") in ([("",)], [(None,)])


@pytest.mark.django_db(transaction=True)
def test_requests_of_two_tenants_on_one_connection_see_their_own(cast: Cast) -> None:
    alice, charlie = make.client(cast.alice), make.client(cast.charlie)
    for client, own, other in ((alice, "Acme", "Globex"), (charlie, "Globex", "Acme")) * 2:
        page = client.get("/settings/").content.decode()
        assert own in page
        assert other not in page


def test_a_scope_of_no_tenant_is_empty(cast: Cast) -> None:
    with as_web(), scope(uuid.uuid4()):
        assert Contact.unscoped.count() == 0
