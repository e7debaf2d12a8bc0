"""Note when a campaign's last message was made."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("sending", "0005_queue_indexes")]

    operations = [
        migrations.AddField(
            model_name="campaign",
            name="prepared_at",
            field=models.DateTimeField(null=True),
        ),
    ]
