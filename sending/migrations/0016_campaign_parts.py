"""The parts of a campaign's audience that workers make at once."""

from __future__ import annotations

import django.db.models.deletion
import django.db.models.manager
from django.db import migrations, models

import esp.lib.ids
from tenants.scoping.migration import enable_row_security


class Migration(migrations.Migration):
    dependencies = [("sending", "0015_route_webhooks"), ("tenants", "0002_row_security")]

    operations = [
        migrations.CreateModel(
            name="CampaignPart",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=esp.lib.ids.new_id,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("after", models.UUIDField(null=True)),
                ("until", models.UUIDField()),
                ("made", models.IntegerField(null=True)),
                (
                    "campaign",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="parts",
                        to="sending.campaign",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "abstract": False,
                "base_manager_name": "unscoped",
                "default_manager_name": "objects",
            },
            managers=[
                ("objects", django.db.models.manager.Manager()),
                ("unscoped", django.db.models.manager.Manager()),
            ],
        ),
        enable_row_security("sending_campaignpart"),
    ]
