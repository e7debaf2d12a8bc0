"""Providers' reports about mail that routes handed them, and the id that a provider gave a message.

The new column of attempts is computed from what stands in the row: PostgreSQL rewrites the months
that there are, once, and older code goes on writing as before.
"""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models
from django.db.models.functions import Left, NullIf

import esp.kit.fields
import esp.lib.ids
from tenants.scoping.migration import hide_from_web

# The web process takes reports in and need not read them again: they are about any tenant's mail.
_MAY_ADD = migrations.RunSQL(
    "CREATE POLICY web_adds ON sending_providerreport FOR INSERT WITH CHECK (status = 'new')",
    "DROP POLICY web_adds ON sending_providerreport",
)


class Migration(migrations.Migration):
    dependencies = [("sending", "0014_newest_by_rising_id")]

    operations = [
        migrations.CreateModel(
            name="RouteWebhook",
            fields=[
                (
                    "route",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="webhook",
                        serialize=False,
                        to="sending.route",
                    ),
                ),
                ("token", esp.kit.fields.EncryptedTextField()),
                ("secrets", esp.kit.fields.EncryptedTextField(blank=True, default="")),
                ("options", models.JSONField(default=dict)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("called_at", models.DateTimeField(null=True)),
                ("calls", models.PositiveBigIntegerField(default=0)),
                ("reports", models.PositiveBigIntegerField(default=0)),
                ("unmatched", models.PositiveBigIntegerField(default=0)),
                ("refused_at", models.DateTimeField(null=True)),
                ("refusals", models.PositiveBigIntegerField(default=0)),
                ("refusal", models.CharField(blank=True, max_length=300)),
            ],
        ),
        migrations.CreateModel(
            name="ProviderReport",
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
                ("received_at", models.DateTimeField(auto_now_add=True)),
                ("route_id", models.UUIDField()),
                ("key", models.CharField(max_length=64)),
                ("said", models.JSONField()),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("new", "New"),
                            ("done", "Done"),
                            ("ignored", "Ignored"),
                            ("failed", "Failed"),
                        ],
                        default="new",
                        max_length=8,
                    ),
                ),
                ("message_id", models.UUIDField(null=True)),
                ("problem", models.CharField(blank=True, max_length=300)),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
            ],
            options={
                "indexes": [
                    models.Index(
                        fields=["id"], condition=models.Q(status="new"), name="report_new"
                    ),
                    models.Index(
                        fields=["message_id"],
                        condition=models.Q(message_id__isnull=False),
                        name="report_message",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=["route_id", "key"], name="report_once"),
                ],
            },
        ),
        hide_from_web("sending_providerreport"),
        _MAY_ADD,
        migrations.AddField(
            model_name="attempt",
            name="provider_id",
            field=models.GeneratedField(
                db_persist=True,
                expression=models.Case(
                    models.When(
                        ~models.Q(route=""),
                        then=NullIf(
                            Left(
                                models.Func(
                                    models.F("reply"),
                                    models.Value(", its id "),
                                    models.Value(2),
                                    function="split_part",
                                ),
                                200,
                            ),
                            models.Value(""),
                        ),
                    ),
                    default=None,
                ),
                output_field=models.CharField(max_length=200, null=True),
            ),
        ),
        migrations.AddIndex(
            model_name="attempt",
            index=models.Index(
                fields=["provider_id"],
                condition=models.Q(provider_id__isnull=False),
                name="attempt_provider_id",
            ),
        ),
    ]
