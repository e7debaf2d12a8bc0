"""Hold the web's database role to the tenant in `app.tenant_id`."""

from __future__ import annotations

from django.db import migrations

from tenants.scoping.migration import (
    append_only,
    enable_row_security,
    enable_row_security_through,
    hide_from_web,
)

TABLES = [
    "contact", "attributedefinition", "contactlist", "subscription", "subscriptionchange",
    "signupform", "suppression", "import", "template", "compiledversion", "batch",
    "messagecontent", "message", "queueentry", "idempotencykey", "event", "attempt",
    "statbucket", "linkstat", "campaign",
]


class Migration(migrations.Migration):
    dependencies = [("sending", "0001_initial")]

    operations = [
        *[enable_row_security(f"sending_{name}") for name in TABLES],
        enable_row_security_through("sending_campaign_lists", "campaign_id", "sending_campaign"),
        enable_row_security_through(
            "sending_campaign_excluded_lists", "campaign_id", "sending_campaign"
        ),
        hide_from_web("sending_inboundmail"),
        append_only("sending_subscriptionchange"),
    ]
