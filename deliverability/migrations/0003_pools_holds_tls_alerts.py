"""Pools that overflow, addresses by node, caps, holds, TLS policies and alerts."""

from __future__ import annotations

import django.db.models.deletion
import django.db.models.manager
from django.db import migrations, models

import esp.lib.ids
from tenants.scoping.migration import enable_row_security


class Migration(migrations.Migration):
    dependencies = [
        ("deliverability", "0002_row_security"),
        ("tenants", "0002_row_security"),
    ]

    operations = [
        migrations.CreateModel(
            name="Alert",
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
                ("code", models.CharField(max_length=40)),
                ("subject", models.CharField(blank=True, max_length=120)),
                (
                    "severity",
                    models.CharField(
                        choices=[("warning", "Warning"), ("critical", "Critical")], max_length=8
                    ),
                ),
                ("title", models.CharField(max_length=200)),
                ("detail", models.TextField(blank=True)),
                ("opened_at", models.DateTimeField()),
                ("seen_at", models.DateTimeField()),
                ("count", models.PositiveIntegerField(default=1)),
                ("closed_at", models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name="DeliveryNode",
            fields=[
                ("name", models.CharField(max_length=100, primary_key=True, serialize=False)),
                ("seen_at", models.DateTimeField()),
                ("is_draining", models.BooleanField(default=False)),
            ],
        ),
        migrations.CreateModel(
            name="IpCap",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("site", models.CharField(blank=True, max_length=60)),
                ("on", models.DateField()),
                ("messages", models.PositiveIntegerField()),
            ],
        ),
        migrations.CreateModel(
            name="MtaStsPolicy",
            fields=[
                ("domain", models.CharField(max_length=253, primary_key=True, serialize=False)),
                ("policy_id", models.CharField(max_length=32)),
                ("mode", models.CharField(max_length=8)),
                ("mx_patterns", models.JSONField(default=list)),
                ("fetched_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="SendingHold",
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
                ("stream", models.CharField(blank=True, max_length=16)),
                ("batch_ref", models.UUIDField(null=True)),
                ("reason", models.CharField(max_length=300)),
                ("rule", models.CharField(blank=True, max_length=60)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("until", models.DateTimeField(null=True)),
                ("lifted_at", models.DateTimeField(null=True)),
                ("lifted_by", models.CharField(blank=True, max_length=254)),
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
        migrations.CreateModel(
            name="TlsRequirement",
            fields=[
                ("domain", models.CharField(max_length=253, primary_key=True, serialize=False)),
                ("note", models.CharField(blank=True, max_length=300)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name="TlsResult",
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
                ("day", models.DateField()),
                ("domain", models.CharField(max_length=253)),
                ("policy_type", models.CharField(max_length=16)),
                ("result_type", models.CharField(max_length=40)),
                ("mx_host", models.CharField(blank=True, max_length=253)),
                ("source_address", models.CharField(blank=True, max_length=45)),
                ("sessions", models.BigIntegerField(default=0)),
            ],
        ),
        migrations.RemoveConstraint(
            model_name="poolrule",
            name="poolrule_unique",
        ),
        migrations.AddField(
            model_name="ipaddress",
            name="node",
            field=models.CharField(blank=True, max_length=100),
        ),
        migrations.AddField(
            model_name="ipaddress",
            name="place",
            field=models.CharField(blank=True, max_length=60),
        ),
        migrations.AddField(
            model_name="ipaddress",
            name="ptr_checked_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="ipaddress",
            name="ptr_problem",
            field=models.CharField(blank=True, max_length=300),
        ),
        migrations.AddField(
            model_name="ipaddress",
            name="status_reason",
            field=models.CharField(blank=True, max_length=300),
        ),
        migrations.AddField(
            model_name="ipaddress",
            name="weight",
            field=models.PositiveSmallIntegerField(default=1),
        ),
        migrations.AddField(
            model_name="ippool",
            name="kind",
            field=models.CharField(
                choices=[
                    ("shared", "Shared"),
                    ("dedicated", "Dedicated"),
                    ("hybrid", "Dedicated, with overflow"),
                    ("high_risk", "High risk"),
                ],
                default="shared",
                max_length=10,
            ),
        ),
        migrations.AddField(
            model_name="ippool",
            name="overflow_pool",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="deliverability.ippool",
            ),
        ),
        migrations.AddField(
            model_name="ippool",
            name="overflow_when",
            field=models.CharField(
                choices=[
                    ("never", "Never: the mail waits"),
                    ("unavailable", "When no address of the pool can send"),
                    ("full", "When the pool's limits and caps are used up, too"),
                ],
                default="never",
                max_length=12,
            ),
        ),
        migrations.AddField(
            model_name="poolrule",
            name="domain",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="deliverability.domain",
            ),
        ),
        migrations.AlterField(
            model_name="ipaddress",
            name="status",
            field=models.CharField(
                choices=[
                    ("active", "Active"),
                    ("draining", "Draining"),
                    ("quarantined", "Quarantined"),
                    ("off", "Off"),
                ],
                default="active",
                max_length=12,
            ),
        ),
        migrations.AddConstraint(
            model_name="poolrule",
            constraint=models.UniqueConstraint(
                fields=("tenant", "stream", "domain"), name="poolrule_unique", nulls_distinct=False
            ),
        ),
        migrations.AddConstraint(
            model_name="alert",
            constraint=models.UniqueConstraint(
                condition=models.Q(("closed_at", None)),
                fields=("code", "subject"),
                name="alert_open_unique",
            ),
        ),
        migrations.AddField(
            model_name="ipcap",
            name="ip",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="caps",
                to="deliverability.ipaddress",
            ),
        ),
        migrations.AddField(
            model_name="sendinghold",
            name="tenant",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="tenants.tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="tlsresult",
            constraint=models.UniqueConstraint(
                fields=("day", "domain", "policy_type", "result_type", "mx_host", "source_address"),
                name="tls_result_unique",
            ),
        ),
        migrations.AddConstraint(
            model_name="ipcap",
            constraint=models.UniqueConstraint(fields=("ip", "site", "on"), name="ipcap_unique"),
        ),
        migrations.AddIndex(
            model_name="sendinghold",
            index=models.Index(
                condition=models.Q(("lifted_at", None)),
                fields=["tenant", "batch_ref"],
                name="hold_open",
            ),
        ),
        enable_row_security("deliverability_sendinghold"),
    ]
