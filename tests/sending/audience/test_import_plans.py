"""An import reads what belongs to its rows, whatever the planner believes of the tables."""

from __future__ import annotations

import pytest
from django.db import connection

from esp.lib.ids import new_id
from sending.audience import import_sql
from sending.audience.models import ContactList
from tenants.scoping.context import scope
from tests import make
from tests.cast import Cast

_BATCH, _BATCHES = 1_500, 4
_TABLES = ("sending_contact", "sending_subscription", "sending_suppression")


def _ask(statement: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        found = cursor.fetchone() if cursor.description else None
    return int(found[0]) if found else 0


def _rows_read() -> int:
    """Return how many rows this transaction has read from contacts and what hangs on them."""
    names = ", ".join(f"'{table}'" for table in _TABLES)
    return _ask(
        "SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))"
        f" FROM pg_stat_xact_user_tables WHERE relname IN ({names})"
    )


def _import(chosen: ContactList, first: int, count: int, *, name: str = "Ann") -> int:
    """Import these people as a batch; return how many rows were read for it."""
    lines = [
        f"{new_id()}\tp{number}@b.test\tp{number}@b.test\t{name}\t\t{{}}"
        for number in range(first, first + count)
    ]
    target = import_sql.BatchTarget(
        tenant_id=chosen.tenant_id,
        list_id=chosen.pk,
        updates=True,
        source="import:imp_1",
        consent_text="They agreed.",
    )
    before = _rows_read()
    with scope(chosen.tenant_id):
        import_sql.prepare_transaction()
        import_sql.stage(lines, target)
        import_sql.write(target)
        _ask("SET CONSTRAINTS ALL IMMEDIATE")  # what is checked at the end of a transaction
        _ask("SET CONSTRAINTS ALL DEFERRED")
    return _rows_read() - before


@pytest.fixture
def chosen(cast: Cast) -> ContactList:
    """A list of Acme's in tables that were never analysed."""
    _ask(f"TRUNCATE {', '.join(_TABLES)} CASCADE")
    return make.contact_list(cast.acme)


def _read_in_batches(chosen: ContactList, first: int = 0) -> list[int]:
    starts = range(first, first + _BATCH * _BATCHES, _BATCH)
    return [_import(chosen, start, _BATCH) for start in starts]


def test_a_batch_reads_its_own_rows_without_statistics(chosen: ContactList) -> None:
    reads = _read_in_batches(chosen)
    known = _import(chosen, 0, _BATCH)
    changed = _import(chosen, 0, _BATCH, name="Eve")
    # New contacts are read by the check of the foreign key; known ones before and while written.
    assert max(reads) <= 2 * _BATCH, reads
    assert max(known, changed) <= 4 * _BATCH


def test_a_batch_reads_its_own_rows_when_tenant_and_list_count_as_one_row(
    chosen: ContactList,
) -> None:
    for table, column in zip(_TABLES, ("tenant_id", "contact_list_id", "tenant_id"), strict=True):
        _ask(f"ALTER TABLE {table} ALTER COLUMN {column} SET (n_distinct = -1)")
    _import(chosen, 0, _BATCH)
    _ask(f"ANALYZE {', '.join(_TABLES)}")
    reads = _read_in_batches(chosen, _BATCH)
    assert max(reads) <= 2 * _BATCH, reads


def test_the_check_of_a_key_forgets_the_plan_of_a_small_table(chosen: ContactList) -> None:
    for number in range(10):  # so often, that the session keeps the plan
        _import(chosen, number, 1)
        if number == 0:
            _ask("ANALYZE sending_contact")
    reads = _read_in_batches(chosen, 10)
    assert max(reads) <= 2 * _BATCH, reads
