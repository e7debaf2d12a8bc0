"""The indexes of messages that came one by one, made while others write, in place of three for all.

An index of a partitioned table cannot be made concurrently, those of its partitions can: the
parent's is made empty, then each partition's, and attached. It can be run again after a failure.
"""

from __future__ import annotations

from typing import Any

from django.db import migrations, models
from django.db.models import Q

# Name, what is indexed, and the index of all messages that goes for it.
INDEXES = (
    ("message_by_tenant", '"tenant_id", "id"', "message_newest"),
    ("message_by_batch", '"batch_id", "id"', "message_batch"),
    ("message_by_address", '"recipient_key"', "message_recipient"),
)
PARTITIONS = """
SELECT inhrelid::regclass::text FROM pg_inherits
WHERE inhparent = 'sending_message'::regclass
"""
PLAIN_KEY = "ALTER TABLE sending_message ALTER COLUMN recipient_key DROP EXPRESSION"
GENERATED_KEY = [
    "ALTER TABLE sending_message DROP COLUMN recipient_key",
    "ALTER TABLE sending_message ADD COLUMN recipient_key integer "
    "GENERATED ALWAYS AS (hashtext(recipient)) STORED",
]
# A partition's index that has the parent's as its parent already.
IS_ATTACHED = """
SELECT EXISTS (SELECT 1 FROM pg_inherits JOIN pg_index ON indexrelid = inhrelid
               WHERE inhparent = to_regclass(%s) AND indrelid = %s::regclass)
"""


def make_indexes(apps: Any, schema_editor: Any) -> None:
    with schema_editor.connection.cursor() as cursor:
        for name, what, before in INDEXES:
            cursor.execute(
                f'CREATE INDEX IF NOT EXISTS "{name}" ON ONLY sending_message ({what}) '
                "WHERE NOT is_spanned"
            )
            cursor.execute(PARTITIONS)
            for (part,) in cursor.fetchall():
                _make_of(cursor, part, name, what)
            cursor.execute(f'DROP INDEX IF EXISTS "{before}"')


def _make_of(cursor: Any, part: str, name: str, what: str) -> None:
    cursor.execute(IS_ATTACHED, [name, part])
    if cursor.fetchone()[0]:
        return  # of a month that was made meanwhile, or by a run that failed later
    own = f"{part}_{name.removeprefix('message_')}"
    cursor.execute(f'DROP INDEX IF EXISTS "{own}"')  # unfinished
    cursor.execute(f'CREATE INDEX CONCURRENTLY "{own}" ON {part} ({what}) WHERE NOT is_spanned')
    cursor.execute(f'ALTER INDEX "{name}" ATTACH PARTITION "{own}"')


def drop_indexes(apps: Any, schema_editor: Any) -> None:
    with schema_editor.connection.cursor() as cursor:
        for name, _, _ in INDEXES:
            cursor.execute(f'DROP INDEX IF EXISTS "{name}"')
        cursor.execute("CREATE INDEX message_newest ON sending_message (tenant_id, id)")
        cursor.execute("CREATE INDEX message_batch ON sending_message (batch_id, id)")
        cursor.execute("CREATE INDEX message_recipient ON sending_message (recipient_key)")


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("sending", "0019_message_spans")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(make_indexes, drop_indexes)],
            state_operations=[
                migrations.RemoveIndex("message", "message_newest"),
                migrations.RemoveIndex("message", "message_batch"),
                migrations.RemoveIndex("message", "message_recipient"),
                migrations.AddIndex(
                    "message",
                    models.Index(
                        fields=["tenant", "id"],
                        condition=Q(is_spanned=False),
                        name="message_by_tenant",
                    ),
                ),
                migrations.AddIndex(
                    "message",
                    models.Index(
                        fields=["batch", "id"],
                        condition=Q(is_spanned=False),
                        name="message_by_batch",
                    ),
                ),
                migrations.AddIndex(
                    "message",
                    models.Index(
                        fields=["recipient_key"],
                        condition=Q(is_spanned=False),
                        name="message_by_address",
                    ),
                ),
            ],
        ),
        # Its values stay for what is there; the API's messages get theirs from the program.
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(PLAIN_KEY, GENERATED_KEY)],
            state_operations=[
                migrations.RemoveField("message", "recipient_key"),
                migrations.AddField("message", "recipient_key", models.IntegerField(null=True)),
            ],
        ),
    ]
