"""Migration operations: row-level security for tenants' tables, and monthly partitions."""

from __future__ import annotations

from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations import CreateModel, RunSQL

_CURRENT = "NULLIF(current_setting('app.tenant_id', true), '')::uuid"
_USER = "NULLIF(current_setting('app.user_id', true), '')::bigint"


def enable_row_security(
    table: str, *, owner_column: str = "tenant_id", also_user_column: str | None = None
) -> RunSQL:
    """Return the operation that lets a role see only rows of the tenant in `app.tenant_id`.

    `also_user_column` opens rows of the person in `app.user_id` for reading as well. Roles with
    BYPASSRLS (workers) and the owner (migrations) are not held by it.
    """
    own = f"{owner_column} = {_CURRENT}"
    readable = f"{own} OR {also_user_column} = {_USER}" if also_user_column else own
    forward: list[Any] = [f'ALTER TABLE "{table}" ENABLE ROW LEVEL SECURITY']
    if also_user_column:
        forward.append(f'CREATE POLICY own_rows ON "{table}" FOR SELECT USING ({readable})')
        for verb, clause in (
            ("INSERT", f"WITH CHECK ({own})"),
            ("UPDATE", f"USING ({own}) WITH CHECK ({own})"),
            ("DELETE", f"USING ({own})"),
        ):
            forward.append(f'CREATE POLICY own_{verb.lower()} ON "{table}" FOR {verb} {clause}')
    else:
        forward.append(f'CREATE POLICY tenant_rows ON "{table}" USING ({own}) WITH CHECK ({own})')
    backward: list[Any] = [f'ALTER TABLE "{table}" DISABLE ROW LEVEL SECURITY']
    names = ("own_rows", "own_insert", "own_update", "own_delete", "tenant_rows")
    backward += [f'DROP POLICY IF EXISTS {name} ON "{table}"' for name in names]
    return RunSQL(sql=[*forward], reverse_sql=[*backward])


class CreatePartitionedModel(CreateModel):
    """Create a table that is partitioned by ranges of its UUIDv7 key.

    UUIDv7 begins with the time, so a range of keys is a span of time: the key alone stays the
    primary key, and a look-up by key touches one partition. `ensure_partitions` makes the months.
    """

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: Any,
        to_state: Any,
    ) -> None:
        plain = schema_editor.sql_create_table
        schema_editor.sql_create_table = f"{plain} PARTITION BY RANGE (id)"
        try:
            super().database_forwards(app_label, schema_editor, from_state, to_state)
        finally:
            schema_editor.sql_create_table = plain
        model = to_state.apps.get_model(app_label, self.name)
        schema_editor.execute(default_partition_sql(model._meta.db_table))  # noqa: SLF001


def default_partition_sql(table: str) -> str:
    """Return the SQL of the partition that takes what no month claims (a clock that jumped)."""
    return (
        f'CREATE TABLE IF NOT EXISTS "{table}_default" PARTITION OF "{table}" DEFAULT; '
        f'ALTER TABLE "{table}_default" ENABLE ROW LEVEL SECURITY'
    )


def enable_row_security_through(table: str, column: str, parent: str) -> RunSQL:
    """Return the operation for a table without a tenant: its parent's row must be visible."""
    seen = f'EXISTS (SELECT 1 FROM "{parent}" parent WHERE parent.id = {column})'  # noqa: S608
    return RunSQL(
        sql=[
            f'ALTER TABLE "{table}" ENABLE ROW LEVEL SECURITY',
            f'CREATE POLICY parent_rows ON "{table}" USING ({seen}) WITH CHECK ({seen})',
        ],
        reverse_sql=[
            f'ALTER TABLE "{table}" DISABLE ROW LEVEL SECURITY',
            f'DROP POLICY IF EXISTS parent_rows ON "{table}"',
        ],
    )


def hide_from_web(table: str) -> RunSQL:
    """Return the operation that leaves a table to workers: security without any policy."""
    return RunSQL(
        sql=f'ALTER TABLE "{table}" ENABLE ROW LEVEL SECURITY',
        reverse_sql=f'ALTER TABLE "{table}" DISABLE ROW LEVEL SECURITY',
    )


def append_only(table: str) -> RunSQL:
    """Return the operation that takes UPDATE and DELETE on `table` from the web's role."""
    exists = "IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'mailwright_app')"
    return RunSQL(
        sql=f'DO $$ BEGIN {exists} THEN REVOKE UPDATE, DELETE ON "{table}" '
        "FROM mailwright_app; END IF; END $$",
        reverse_sql=f'DO $$ BEGIN {exists} THEN GRANT UPDATE, DELETE ON "{table}" '
        "TO mailwright_app; END IF; END $$",
    )
