"""Where an import stands; search that keeps its index under row security; deleting a contact.

The contacts' tables drop the constraint on the tenant's key, as the messages' tables do: an import
of a million rows would check it three million times against one row.
"""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

from sending.audience.search_sql import DELETE_CONTACT_SQL, SEARCH_CONTACTS_SQL


def hot_tenant(model: str) -> migrations.AlterField:
    return migrations.AlterField(
        model_name=model,
        name="tenant",
        field=models.ForeignKey(
            db_constraint=False,
            db_index=False,
            on_delete=django.db.models.deletion.DO_NOTHING,
            related_name="+",
            to="tenants.tenant",
        ),
    )


class Migration(migrations.Migration):
    dependencies = [("sending", "0003_partitions")]

    operations = [
        hot_tenant("contact"),
        hot_tenant("subscription"),
        hot_tenant("subscriptionchange"),
        migrations.AddField("import", "cursor", models.JSONField(default=dict)),
        migrations.AddField("import", "claim", models.UUIDField(null=True)),
        migrations.AlterField("import", "mapping", models.JSONField(default=list)),
        migrations.RunSQL(
            SEARCH_CONTACTS_SQL,
            "DROP FUNCTION search_contacts(text, uuid, text, uuid, uuid, int)",
        ),
        migrations.RunSQL(DELETE_CONTACT_SQL, "DROP FUNCTION delete_contact(uuid)"),
    ]
