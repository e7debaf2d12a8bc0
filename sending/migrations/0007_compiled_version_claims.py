"""Tell content that waits for a worker from content that killed one."""

from __future__ import annotations

import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("sending", "0006_campaign_prepared")]

    operations = [
        migrations.AddField(
            model_name="compiledversion",
            name="asked_at",
            field=models.DateTimeField(auto_now_add=True, default=django.utils.timezone.now),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="compiledversion",
            name="started_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddIndex(
            model_name="compiledversion",
            index=models.Index(fields=["created_at"], name="compiled_oldest"),
        ),
    ]
