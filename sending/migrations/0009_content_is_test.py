"""Mark the content of test mails: unsubscribing by one changes nothing."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("sending", "0008_import_speed")]

    operations = [
        migrations.AddField(
            "messagecontent", "is_test", models.BooleanField(db_default=False, default=False)
        ),
    ]
