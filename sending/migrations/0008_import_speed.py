"""Imports and searches at a million contacts.

Two constraints go whose parents are never deleted without their children: an import of a million
rows checked them two million times. Deleting a contact locks its subscriptions instead. A search in
a list asks the list of one hit after the other.
"""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

from sending.audience.search_sql import DELETE_CONTACT_SQL, SEARCH_CONTACTS_SQL


class Migration(migrations.Migration):
    dependencies = [("sending", "0007_compiled_version_claims")]

    operations = [
        migrations.AlterField(
            "subscription",
            "contact_list",
            models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="subscriptions",
                to="sending.contactlist",
            ),
        ),
        migrations.AlterField(
            "subscriptionchange",
            "subscription",
            models.ForeignKey(
                db_constraint=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="changes",
                to="sending.subscription",
            ),
        ),
        migrations.RunSQL(SEARCH_CONTACTS_SQL, migrations.RunSQL.noop),
        migrations.RunSQL(DELETE_CONTACT_SQL, migrations.RunSQL.noop),
    ]
