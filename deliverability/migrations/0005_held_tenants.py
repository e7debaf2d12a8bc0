"""A function that names the tenants with open holds: operators' pages ask each of them in turn.

The web's role sees one tenant's rows at a time. The function runs as the tables' owner and tells
nothing but the keys.
"""

from __future__ import annotations

from django.db import migrations

HELD_TENANTS = """
CREATE OR REPLACE FUNCTION held_tenants() RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = public, pg_temp
AS $$
  SELECT DISTINCT tenant_id FROM deliverability_sendinghold
  WHERE lifted_at IS NULL AND (until IS NULL OR until > now())
$$
"""


class Migration(migrations.Migration):
    dependencies = [("deliverability", "0004_pool_kinds")]

    operations = [migrations.RunSQL(HELD_TENANTS, "DROP FUNCTION held_tenants()")]
