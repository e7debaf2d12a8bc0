"""Give pools that were not shared the kind that says so."""

from __future__ import annotations

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("deliverability", "0003_pools_holds_tls_alerts")]

    operations = [
        migrations.RunSQL(
            "UPDATE deliverability_ippool SET kind = 'dedicated' "
            "WHERE NOT is_shared AND kind = 'shared'",
            migrations.RunSQL.noop,
        ),
    ]
