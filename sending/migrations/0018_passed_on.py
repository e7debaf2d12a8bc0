"""To which node a message is passed on that its own nodes have no room for."""

from __future__ import annotations

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    atomic = False  # the index is made while others write

    dependencies = [("sending", "0017_limit_counts")]

    operations = [
        migrations.AddField(
            "queueentry",
            "passed_to",
            models.CharField(blank=True, db_default="", max_length=100),
        ),
        AddIndexConcurrently(
            "queueentry",
            models.Index(
                fields=["batch_id", "passed_to"], condition=~Q(passed_to=""), name="queue_passed"
            ),
        ),
    ]
