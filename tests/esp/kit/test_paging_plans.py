"""Pages of one tenant do not read the newer rows of another one."""

from __future__ import annotations

import uuid

import pytest
from django.apps import apps
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from esp.kit.paging import newest_first
from esp.lib.ids import new_id
from tenants.scoping.context import scope
from tenants.scoping.models import TenantModel
from tests.cast import Cast

# So few of so many that the planner takes the index whichever of the two tenants has the smaller
# key: by that the index follows the table, or does not.
_OLD, _NEW = 60, 12_000


def _newest_indexes() -> list[tuple[type[TenantModel], str]]:
    return [
        (model, index.name)
        for model in apps.get_models()
        if issubclass(model, TenantModel)
        for index in model._meta.indexes
        if index.name.endswith("_newest")
    ]


def _value_of(kind: str, length: int | None) -> str:
    values = {
        "uuid": "gen_random_uuid()",
        "boolean": "false",
        "jsonb": "'{}'::jsonb",
        "timestamp with time zone": "now()",
        "inet": "'127.0.0.1'::inet",
        "bytea": "''::bytea",
        "ARRAY": "'{}'",
    }
    if length is not None and length < 8:
        return "'x'"
    if kind in ("character varying", "text"):
        return "'x' || n"
    return values.get(kind, "1")


def _fill(table: str, tenant_id: uuid.UUID, count: int, first: int = 0) -> None:
    """Add rows with plain values in whatever the table requires."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT column_name, data_type, character_maximum_length "
            "FROM information_schema.columns WHERE table_name = %s "
            "AND is_nullable = 'NO' AND is_generated = 'NEVER' AND is_identity = 'NO'",
            [table],
        )
        columns = {name: _value_of(kind, size) for name, kind, size in cursor.fetchall()}
        columns |= {"id": "key", "tenant_id": "%s"}
        cursor.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) "
            f"SELECT {', '.join(columns.values())} "
            "FROM (SELECT key, place + %s FROM unnest(%s::uuid[]) WITH ORDINALITY u (key, place)) "
            "AS given (key, n)",
            [tenant_id, first, [new_id() for _ in range(count)]],
        )


def _plans_of_page(model: type[TenantModel], tenant_id: uuid.UUID) -> str:
    with scope(tenant_id), CaptureQueriesContext(connection) as queries:
        page = newest_first(model.objects.all(), size=50)
        assert len(page.rows) == 50
        assert page.next_cursor
        after = newest_first(model.objects.all(), after=page.next_cursor, size=50)
        assert page.rows[-1].pk > after.rows[0].pk
        keys = [q["sql"] for q in queries if "ORDER BY" in q["sql"]]
    assert len(keys) == 2
    lines: list[str] = []
    with connection.cursor() as cursor:
        for sql in keys:
            cursor.execute(f"EXPLAIN {sql}")
            lines += [line for (line,) in cursor.fetchall()]
    return "\n".join(lines)


@pytest.mark.parametrize(("model", "index"), _newest_indexes())
def test_a_page_walks_its_tenants_index(cast: Cast, model: type[TenantModel], index: str) -> None:
    table = model._meta.db_table
    with transaction.atomic():
        _fill(table, cast.acme.pk, _OLD)
        _fill(table, cast.globex.pk, _NEW)
        _fill(
            table, cast.acme.pk, 60, first=_OLD
        )  # the second page begins in front of the other's rows
        with connection.cursor() as cursor:
            cursor.execute(f"ANALYZE {table}")
        plan = _plans_of_page(model, cast.acme.pk)
        transaction.set_rollback(True)
    assert "_pkey" not in plan, plan
    assert "Seq Scan" not in plan, plan
    assert "tenant" in plan
