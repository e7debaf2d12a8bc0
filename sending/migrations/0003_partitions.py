"""The function that makes monthly partitions, and the first of them."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import migrations

from esp.kit.partitions import MAKE_PARTITION_SQL, ensure_partitions


def make_first(apps: Any, schema_editor: Any) -> None:
    ensure_partitions(dt.datetime.now(tz=dt.UTC).date())


class Migration(migrations.Migration):
    dependencies = [("sending", "0002_row_security")]

    operations = [
        migrations.RunSQL(
            MAKE_PARTITION_SQL, "DROP FUNCTION make_partition(text, text, uuid, uuid)"
        ),
        migrations.RunPython(make_first, migrations.RunPython.noop),
    ]
