"""Campaigns' messages get ids of spans of their own, and no index but the primary key.

Of the six indexes that a message and its queue entry were written to, three go for them: the list
of the tenant, the batch's recipients and the search by address are served by the spans. A message
that came one by one keeps them, in `0020`.
"""

from __future__ import annotations

import django.db.models.deletion
import django.db.models.manager
from django.db import migrations, models

import esp.lib.ids
from tenants.scoping.migration import enable_row_security


def plain_key(to: str) -> models.ForeignKey:  # type: ignore[type-arg]
    return models.ForeignKey(
        db_constraint=False,
        db_index=False,
        on_delete=django.db.models.deletion.DO_NOTHING,
        related_name="+",
        to=to,
    )


class Migration(migrations.Migration):
    dependencies = [("sending", "0018_passed_on"), ("tenants", "0002_row_security")]

    operations = [
        migrations.CreateModel(
            name="MessageSpan",
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
                ("base_us", models.BigIntegerField()),
                ("slots", models.IntegerField()),
                ("first_id", models.UUIDField()),
                ("last_id", models.UUIDField()),
                ("batch", plain_key("sending.batch")),
                ("tenant", plain_key("tenants.tenant")),
            ],
            options={
                "abstract": False,
                "base_manager_name": "unscoped",
                "default_manager_name": "objects",
                "indexes": [
                    models.Index(fields=["tenant", "last_id"], name="span_by_tenant"),
                    models.Index(fields=["batch", "last_id"], name="span_by_batch"),
                    models.Index(fields=["last_id"], name="span_end"),
                ],
            },
            managers=[
                ("objects", django.db.models.manager.Manager()),
                ("unscoped", django.db.models.manager.Manager()),
            ],
        ),
        enable_row_security("sending_messagespan"),
        migrations.AddField(
            "campaignpart",
            "span",
            models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="sending.messagespan",
            ),
        ),
        # False for what is there, without touching a row; the indexes of 0020 hold all of it.
        migrations.AddField(
            "message", "is_spanned", models.BooleanField(db_default=False, default=False)
        ),
    ]
