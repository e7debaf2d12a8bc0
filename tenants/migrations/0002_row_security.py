"""Hold the web's database role to the tenant in `app.tenant_id`."""

from __future__ import annotations

from django.db import migrations

from tenants.scoping.migration import append_only, enable_row_security


class Migration(migrations.Migration):
    dependencies = [("tenants", "0001_initial")]

    operations = [
        enable_row_security("tenants_membership", also_user_column="user_id"),
        enable_row_security("tenants_invitation"),
        enable_row_security("tenants_apikey"),
        enable_row_security("tenants_auditentry"),
        append_only("tenants_auditentry"),
    ]
