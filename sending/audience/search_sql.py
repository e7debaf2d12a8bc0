"""The SQL functions that contacts need beside the ORM; migrations install them.

Both are SECURITY DEFINER: they run as the tables' owner, whom row-level security does not hold,
and filter by `app.tenant_id` themselves. Without that, LIKE cannot use the trigram index for the
web's role, because its operator is not leakproof and must wait behind the security condition.

Measured with 1,000,000 contacts of one tenant (two cores, PostgreSQL 18, shared_buffers 64 MB):
see `docs/audience.md`, section "Search".
"""

from __future__ import annotations

from typing import Final

# Search in two steps. What many contacts match ("gmail") is found at once among the newest ones,
# walking the key; what few match is found by the trigram index. Each step is cheap exactly where
# the other one is not. Two letters have no trigram of their own inside a word, so short texts match
# beginnings of words ("  a", " ab" are trigrams). `wild` arrives from here, already escaped.
SEARCH_CONTACTS_SQL: Final = r"""
CREATE OR REPLACE FUNCTION search_contacts(
  q text, list_id uuid, list_status text, after uuid, before uuid, size int
) RETURNS SETOF uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = public, pg_temp
AS $$
DECLARE
  tenant uuid := NULLIF(current_setting('app.tenant_id', true), '')::uuid;
  wild text := replace(replace(replace(lower(trim(q)), '\', '\\'), '%', '\%'), '_', '\_');
  patterns text[];
  upward boolean := before IS NOT NULL;
  edge uuid := coalesce(before, after,
    'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid);
  step text;
  way text := CASE WHEN upward THEN 'ASC' ELSE 'DESC' END;
  side text := CASE WHEN upward THEN '>' ELSE '<' END;
  seen int;
  found uuid[];
  breadth int := 1500;
BEGIN
  IF tenant IS NULL THEN
    RAISE insufficient_privilege USING MESSAGE = 'no tenant is named';
  END IF;
  patterns := CASE WHEN length(trim(q)) < 3
    THEN ARRAY[wild || '%', '% ' || wild || '%']
    ELSE ARRAY['%' || wild || '%'] END;
  IF list_id IS NULL THEN
    -- Keys alone first: an index-only scan of (tenant, id). Asked for whole rows, the planner may
    -- walk the primary key instead, through every newer contact of other tenants.
    step := format('SELECT c.id, c.search_text FROM (
        SELECT k.id FROM sending_contact k
        WHERE k.tenant_id = $1 AND k.id %s $2 ORDER BY k.id %s LIMIT $3) key
      JOIN sending_contact c ON c.id = key.id AND c.tenant_id = $1', side, way);
  ELSE
    step := format('SELECT c.id, c.search_text FROM (
        SELECT s.contact_id FROM sending_subscription s
        WHERE s.contact_list_id = $5 AND s.tenant_id = $1 AND s.contact_id %s $2
          AND ($6 IS NULL OR s.status = $6)
        ORDER BY s.contact_id %s LIMIT $3) near
      JOIN sending_contact c ON c.id = near.contact_id AND c.tenant_id = $1', side, way);
  END IF;
  EXECUTE format('SELECT count(*), (array_agg(near.id ORDER BY near.id %s)
      FILTER (WHERE near.search_text LIKE ANY ($4)))[1:$7] FROM (%s) near', way, step)
    INTO seen, found USING tenant, edge, breadth, patterns, list_id, list_status, size;
  IF seen < breadth OR cardinality(found) >= size THEN
    RETURN QUERY SELECT unnest(found);
    RETURN;
  END IF;
  -- Newest first, and the list is asked of one after the other until the page is full. EXISTS would
  -- do for all of them, or read the whole list into a hash table.
  RETURN QUERY EXECUTE format('
    WITH hit AS MATERIALIZED (
      SELECT c.id FROM sending_contact c
      WHERE c.tenant_id = $1 AND (c.search_text LIKE $4[1] %s))
    SELECT sorted.id FROM (
        SELECT hit.id FROM hit WHERE hit.id %s $2 ORDER BY hit.id %s OFFSET 0) sorted
    WHERE $5 IS NULL OR (SELECT true FROM sending_subscription s
        WHERE s.contact_list_id = $5 AND s.contact_id = sorted.id
          AND ($6 IS NULL OR s.status = $6) LIMIT 1)
    LIMIT $7',
    CASE WHEN cardinality(patterns) > 1 THEN 'OR c.search_text LIKE $4[2]' ELSE '' END, side, way)
    USING tenant, edge, breadth, patterns, list_id, list_status, size;
END
$$;
"""

# The history of subscriptions is append-only for the web's role; it goes with its contact alone.
DELETE_CONTACT_SQL: Final = """
CREATE OR REPLACE FUNCTION delete_contact(contact uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = public, pg_temp
AS $$
DECLARE
  tenant uuid := NULLIF(current_setting('app.tenant_id', true), '')::uuid;
BEGIN
  IF tenant IS NULL THEN
    RAISE insufficient_privilege USING MESSAGE = 'no tenant is named';
  END IF;
  -- Locked first: who changes a subscription holds its row, and adds history until they let go.
  PERFORM 1 FROM sending_subscription s
    WHERE s.contact_id = contact AND s.tenant_id = tenant FOR UPDATE;
  DELETE FROM sending_subscriptionchange h USING sending_subscription s
    WHERE h.subscription_id = s.id AND s.contact_id = contact AND s.tenant_id = tenant;
  DELETE FROM sending_subscription s WHERE s.contact_id = contact AND s.tenant_id = tenant;
  DELETE FROM sending_contact c WHERE c.id = contact AND c.tenant_id = tenant;
  RETURN FOUND;
END
$$;
"""
