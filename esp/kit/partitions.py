"""Monthly partitions of tables that are partitioned by their UUIDv7 key.

Only the owner may create tables; `make_partition` is a function of the owner's (SECURITY DEFINER,
migration sending.0003) that workers may call for the tables named here.
"""

from __future__ import annotations

import datetime as dt

from django.db import connection

from esp.lib.ids import lower_bound

PARTITIONED = ("sending_message", "sending_event", "sending_attempt")

MAKE_PARTITION_SQL = f"""
CREATE OR REPLACE FUNCTION make_partition(parent text, suffix text, low uuid, high uuid)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE name text := parent || '_' || suffix;
        taken boolean;
BEGIN
    IF parent NOT IN ({", ".join(f"'{table}'" for table in PARTITIONED)}) THEN
        RAISE EXCEPTION 'the table % is not partitioned', parent;
    END IF;
    IF to_regclass(quote_ident(name)) IS NOT NULL THEN RETURN false; END IF;
    EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I WHERE id >= $1 AND id < $2)',
                   parent || '_default') INTO taken USING low, high;
    IF taken THEN RETURN false; END IF;
    EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                   name, parent, low, high);
    -- Without a policy only owner and workers read a partition by its own name.
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    RETURN true;
END $$;
REVOKE ALL ON FUNCTION make_partition(text, text, uuid, uuid) FROM PUBLIC;
DO $$ BEGIN
    IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'mailwright_worker') THEN
        GRANT EXECUTE ON FUNCTION make_partition(text, text, uuid, uuid) TO mailwright_worker;
    END IF;
    -- The database's default privileges have granted it to both roles when it was made.
    IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'mailwright_app') THEN
        REVOKE ALL ON FUNCTION make_partition(text, text, uuid, uuid) FROM mailwright_app;
    END IF;
END $$;
"""  # noqa: S608 (the names are the constants above)


def _month(start: dt.date, offset: int) -> dt.date:
    index = start.year * 12 + start.month - 1 + offset
    return dt.date(index // 12, index % 12 + 1, 1)


def ensure_partitions(today: dt.date, *, ahead: int = 2) -> list[str]:
    """Make the partitions for this month and `ahead` more; return the names of new ones.

    A partition cannot be made while the default one holds rows of its range: that happens only
    when the scheduler was off for months, and then the rows stay where they are, found as before.
    """
    made = []
    for table in PARTITIONED:
        for offset in range(ahead + 1):
            first, following = _month(today, offset), _month(today, offset + 1)
            suffix = f"{first:%Y_%m}"
            if _make(table, suffix, first, following):
                made.append(f"{table}_{suffix}")
    return made


def _make(table: str, suffix: str, first: dt.date, following: dt.date) -> bool:
    low, high = (
        lower_bound(dt.datetime(day.year, day.month, 1, tzinfo=dt.UTC))
        for day in (first, following)
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT make_partition(%s, %s, %s, %s)", [table, suffix, low, high])
        return bool(cursor.fetchone()[0])
