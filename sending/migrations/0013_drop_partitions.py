"""The function that drops months past their retention."""

from __future__ import annotations

from django.db import migrations

from esp.kit.partitions import DROP_PARTITION_SQL


class Migration(migrations.Migration):
    dependencies = [("sending", "0012_delivery_at_speed")]

    operations = [
        migrations.RunSQL(DROP_PARTITION_SQL, "DROP FUNCTION drop_partition(text, text, integer)")
    ]
