"""The indexes behind "newest first" rise with the id and are read backwards.

Ids come in order. In a falling index each new one stands before all others of its tenant, where
pages are split half and half: it grows to nearly twice the size, and costs more to write.
"""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("sending", "0013_drop_partitions")]

    operations = [
        migrations.RemoveIndex("message", "message_newest"),
        migrations.RemoveIndex("event", "event_newest"),
        migrations.AddIndex(
            "message", models.Index(fields=["tenant", "id"], name="message_newest")
        ),
        migrations.AddIndex("event", models.Index(fields=["tenant", "id"], name="event_newest")),
    ]
