"""The web's role makes no tables: take back what default privileges gave it."""

from __future__ import annotations

from django.db import migrations

from esp.kit.partitions import MAKE_PARTITION_SQL


class Migration(migrations.Migration):
    dependencies = [("sending", "0009_content_is_test")]

    operations = [migrations.RunSQL(MAKE_PARTITION_SQL, migrations.RunSQL.noop)]
