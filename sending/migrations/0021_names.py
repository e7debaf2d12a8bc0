"""The names of a campaign's recipients, as the contact has them."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("sending", "0020_indexes_without_spans")]

    operations = [
        migrations.AddField(
            "message",
            name,
            models.CharField(blank=True, db_default="", default="", max_length=100),
        )
        for name in ("first_name", "last_name")
    ]
