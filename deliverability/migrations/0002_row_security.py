"""Hold the web's database role to the tenant in `app.tenant_id`."""

from __future__ import annotations

from django.db import migrations

from tenants.scoping.migration import enable_row_security

TABLES = ["domain", "dkimkey", "dnscheck", "sender", "poolrule"]


class Migration(migrations.Migration):
    dependencies = [("deliverability", "0001_initial")]

    operations = [enable_row_security(f"deliverability_{name}") for name in TABLES]
