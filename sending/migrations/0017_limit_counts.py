"""What left under an operator's limit in the hour and day of its last use."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("sending", "0016_campaign_parts")]

    operations = [
        migrations.AddField(
            "limitoverride", "hour", models.DateTimeField(editable=False, null=True)
        ),
        migrations.AddField(
            "limitoverride",
            "sent_hour",
            models.PositiveBigIntegerField(db_default=0, default=0, editable=False),
        ),
        migrations.AddField("limitoverride", "day", models.DateField(editable=False, null=True)),
        migrations.AddField(
            "limitoverride",
            "sent_day",
            models.PositiveBigIntegerField(db_default=0, default=0, editable=False),
        ),
    ]
