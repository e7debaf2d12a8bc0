"""Lanes, routes, and where a queued message stands with them."""

from __future__ import annotations

import django.db.models.deletion
import django.db.models.manager
from django.db import migrations, models

import esp.kit.fields
import esp.lib.ids
from tenants.scoping.migration import append_only, enable_row_security


class Migration(migrations.Migration):
    dependencies = [
        ("sending", "0010_partitions_for_workers_only"),
        ("tenants", "0002_row_security"),
    ]

    operations = [
        migrations.CreateModel(
            name="DefaultRoute",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("stream", models.CharField(max_length=16, unique=True)),
            ],
        ),
        migrations.CreateModel(
            name="LaneState",
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
                ("source_id", models.CharField(max_length=36)),
                ("site", models.CharField(max_length=60)),
                ("is_paused", models.BooleanField(default=False)),
                ("paused_reason", models.CharField(blank=True, max_length=300)),
                ("suspended_until", models.DateTimeField(null=True)),
                ("suspended_rule", models.CharField(blank=True, max_length=60)),
                ("suspended_reason", models.CharField(blank=True, max_length=300)),
                ("concurrency", models.FloatField(default=0)),
                ("hour", models.DateTimeField(null=True)),
                ("sent_hour", models.PositiveIntegerField(default=0)),
                ("day", models.DateField(null=True)),
                ("sent_day", models.PositiveIntegerField(default=0)),
                ("delivered", models.BigIntegerField(default=0)),
                ("deferred", models.BigIntegerField(default=0)),
                ("bounced", models.BigIntegerField(default=0)),
                ("last_reply", models.CharField(blank=True, max_length=300)),
                ("last_used_at", models.DateTimeField(null=True)),
                ("updated_at", models.DateTimeField(auto_now=True)),
            ],
        ),
        migrations.CreateModel(
            name="LimitOverride",
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
                (
                    "scope",
                    models.CharField(
                        choices=[
                            ("global", "Everything that leaves"),
                            ("site", "Every lane to a site"),
                            ("lane", "One lane"),
                            ("domain", "A recipients' domain"),
                            ("tenant", "A tenant"),
                            ("batch", "A campaign"),
                        ],
                        max_length=8,
                    ),
                ),
                ("key", models.CharField(blank=True, max_length=255)),
                ("connections", models.PositiveIntegerField(blank=True, null=True)),
                ("messages_per_connection", models.PositiveIntegerField(blank=True, null=True)),
                ("connections_per_minute", models.PositiveIntegerField(blank=True, null=True)),
                ("per_second", models.FloatField(blank=True, null=True)),
                ("per_minute", models.PositiveIntegerField(blank=True, null=True)),
                ("per_hour", models.PositiveIntegerField(blank=True, null=True)),
                ("per_day", models.PositiveIntegerField(blank=True, null=True)),
                ("note", models.CharField(blank=True, max_length=300)),
                ("updated_at", models.DateTimeField(auto_now=True)),
            ],
        ),
        migrations.CreateModel(
            name="Route",
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
                ("name", models.CharField(max_length=60, unique=True)),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("direct", "Direct to the receivers' servers"),
                            ("smarthost", "Smarthost (SMTP)"),
                            ("http", "Provider's HTTP API"),
                        ],
                        max_length=10,
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[("active", "Active"), ("off", "Off")],
                        default="active",
                        max_length=10,
                    ),
                ),
                ("options", models.JSONField(default=dict)),
                ("secrets", esp.kit.fields.EncryptedTextField(blank=True, default="")),
                ("failures", models.PositiveIntegerField(default=0)),
                ("rests_until", models.DateTimeField(null=True)),
                ("last_error", models.CharField(blank=True, max_length=300)),
                ("checked_at", models.DateTimeField(null=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name="RouteRule",
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
                ("stream", models.CharField(max_length=16)),
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
            name="RouteSet",
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
                ("name", models.CharField(max_length=60, unique=True)),
                (
                    "strategy",
                    models.CharField(
                        choices=[
                            ("failover", "In order, the next when one fails"),
                            ("round_robin", "In turn"),
                            ("weighted", "By weight"),
                            ("performance", "By delivery rate and latency"),
                        ],
                        default="failover",
                        max_length=12,
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name="RouteSetMember",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("position", models.PositiveSmallIntegerField(default=0)),
                ("weight", models.PositiveSmallIntegerField(default=1)),
            ],
        ),
        migrations.CreateModel(
            name="RouteStat",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("minute", models.DateTimeField()),
                ("delivered", models.PositiveIntegerField(default=0)),
                ("deferred", models.PositiveIntegerField(default=0)),
                ("bounced", models.PositiveIntegerField(default=0)),
                ("seconds", models.FloatField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name="ShapingAction",
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
                ("at", models.DateTimeField()),
                ("action", models.CharField(max_length=20)),
                ("rule", models.CharField(blank=True, max_length=60)),
                ("title", models.CharField(blank=True, max_length=200)),
                ("source_id", models.CharField(blank=True, max_length=36)),
                ("source_address", models.CharField(blank=True, max_length=45)),
                ("site", models.CharField(blank=True, max_length=60)),
                ("tenant_ref", models.UUIDField(null=True)),
                ("batch_ref", models.UUIDField(null=True)),
                ("message_ref", models.UUIDField(null=True)),
                ("reply", models.CharField(blank=True, max_length=500)),
                ("until", models.DateTimeField(null=True)),
                ("actor", models.CharField(blank=True, max_length=254)),
            ],
        ),
        migrations.AddField(
            model_name="attempt",
            name="is_ambiguous",
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name="attempt",
            name="route",
            field=models.CharField(blank=True, db_default="", max_length=60),
        ),
        migrations.AddField(
            model_name="attempt",
            name="site",
            field=models.CharField(blank=True, db_default="", max_length=60),
        ),
        migrations.AddField(
            model_name="contact",
            name="engaged_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="queueentry",
            name="hold",
            field=models.CharField(blank=True, db_default="", max_length=16),
        ),
        migrations.AddField(
            model_name="queueentry",
            name="site",
            field=models.CharField(blank=True, db_default="", max_length=60),
        ),
        migrations.AddField(
            model_name="queueentry",
            name="source_id",
            field=models.CharField(blank=True, db_default="", max_length=36),
        ),
        migrations.AddIndex(
            model_name="queueentry",
            index=models.Index(
                condition=models.Q(("site", ""), _negated=True),
                fields=["site", "source_id"],
                name="queue_by_site",
            ),
        ),
        migrations.AddIndex(
            model_name="lanestate",
            index=models.Index(
                condition=models.Q(("suspended_until__isnull", False)),
                fields=["suspended_until"],
                name="lane_suspended",
            ),
        ),
        migrations.AddConstraint(
            model_name="lanestate",
            constraint=models.UniqueConstraint(fields=("source_id", "site"), name="lane_unique"),
        ),
        migrations.AddConstraint(
            model_name="limitoverride",
            constraint=models.UniqueConstraint(
                fields=("scope", "key"), name="limit_override_unique"
            ),
        ),
        migrations.AddField(
            model_name="routerule",
            name="tenant",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="tenants.tenant",
            ),
        ),
        migrations.AddField(
            model_name="routerule",
            name="route_set",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="rules",
                to="sending.routeset",
            ),
        ),
        migrations.AddField(
            model_name="defaultroute",
            name="route_set",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="defaults",
                to="sending.routeset",
            ),
        ),
        migrations.AddField(
            model_name="routesetmember",
            name="route",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="memberships",
                to="sending.route",
            ),
        ),
        migrations.AddField(
            model_name="routesetmember",
            name="route_set",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="members",
                to="sending.routeset",
            ),
        ),
        migrations.AddField(
            model_name="routestat",
            name="route",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="stats",
                to="sending.route",
            ),
        ),
        migrations.AddIndex(
            model_name="shapingaction",
            index=models.Index(fields=["source_id", "site", "-id"], name="action_lane"),
        ),
        migrations.AddIndex(
            model_name="shapingaction",
            index=models.Index(fields=["tenant_ref", "-id"], name="action_tenant"),
        ),
        migrations.AddConstraint(
            model_name="routerule",
            constraint=models.UniqueConstraint(
                fields=("tenant", "stream"), name="routerule_unique"
            ),
        ),
        migrations.AddConstraint(
            model_name="routesetmember",
            constraint=models.UniqueConstraint(
                fields=("route_set", "route"), name="route_member_unique"
            ),
        ),
        migrations.AddConstraint(
            model_name="routestat",
            constraint=models.UniqueConstraint(
                fields=("route", "minute"), name="route_stat_unique"
            ),
        ),
        enable_row_security("sending_routerule"),
        append_only("sending_shapingaction"),
    ]
