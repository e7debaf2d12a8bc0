"""Monthly partitions of tables that are partitioned by their UUIDv7 key.

Only the owner may create and drop tables; `make_partition` and `drop_partition` are functions of
the owner's (SECURITY DEFINER, migrations sending.0003 and 0013) that workers may call for the
tables named here.
"""

from __future__ import annotations

import datetime as dt

from django.db import OperationalError, connection, transaction

from esp.lib.ids import lower_bound
from esp.lib.retention import SHORTEST_RETENTION_DAYS

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

# Whoever writes waits behind the lock that dropping takes: not for long, and another day again.
# The shortest retention stands here, too: a wrong setting must not cost what cannot be undone.
# A message that waits keeps its month, and the months of the events and attempts it may have.
DROP_PARTITION_SQL = f"""
CREATE OR REPLACE FUNCTION drop_partition(parent text, part text, keep_days integer)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
SET lock_timeout = '2s' AS $$
DECLARE bounds text; low uuid; high uuid; past timestamptz; is_waiting boolean;
BEGIN
    IF parent NOT IN ({", ".join(f"'{table}'" for table in PARTITIONED)}) THEN
        RAISE EXCEPTION 'the table % is not partitioned', parent;
    END IF;
    IF keep_days IS NULL OR keep_days < {SHORTEST_RETENTION_DAYS} THEN
        RAISE EXCEPTION 'messages are kept for {SHORTEST_RETENTION_DAYS} days at least';
    END IF;
    EXECUTE format('LOCK TABLE ONLY %I IN ACCESS EXCLUSIVE MODE', parent);
    SELECT pg_get_expr(child.relpartbound, child.oid) INTO bounds
    FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid
    WHERE inhparent = to_regclass(parent) AND child.relname = part;
    high := substring(bounds FROM 'TO \\(''([0-9a-f-]{{36}})''\\)');
    low := substring(bounds FROM 'FROM \\(''([0-9a-f-]{{36}})''\\)');
    IF low IS NULL OR high IS NULL THEN
        RAISE EXCEPTION '% is no month of %', part, parent;
    END IF;
    past := to_timestamp(
        ('x0000' || left(replace(high::text, '-', ''), 12))::bit(64)::bigint / 1000.0);
    IF past > now() - make_interval(days => keep_days) THEN
        RAISE EXCEPTION '% is not wholly past its retention', part;
    END IF;
    SELECT EXISTS (
        SELECT 1 FROM sending_queueentry
        WHERE message_id < high AND (parent <> 'sending_message' OR message_id >= low)
    ) INTO is_waiting;
    IF is_waiting THEN RETURN false; END IF;
    EXECUTE format('DROP TABLE %I', part);
    RETURN true;
END $$;
REVOKE ALL ON FUNCTION drop_partition(text, text, integer) FROM PUBLIC;
DO $$ BEGIN
    IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'mailwright_worker') THEN
        GRANT EXECUTE ON FUNCTION drop_partition(text, text, integer) TO mailwright_worker;
    END IF;
    -- The database's default privileges have granted it to both roles when it was made.
    IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'mailwright_app') THEN
        REVOKE ALL ON FUNCTION drop_partition(text, text, integer) FROM mailwright_app;
    END IF;
END $$;
"""  # noqa: S608 (the names and the number are the constants above)

_MONTHS = """
SELECT child.relname, substring(pg_get_expr(child.relpartbound, child.oid)
                                FROM 'TO \\(''([0-9a-f-]{36})''\\)')::uuid AS high
FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid
WHERE inhparent = to_regclass(%s) ORDER BY high
"""


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


def drop_partitions(now: dt.datetime, *, keep_days: int) -> tuple[list[str], list[str]]:
    """Drop the months that ended `keep_days` before `now` (aware); return (dropped, left) by name.

    Left is what a waiting message needs, and what was too busy to be locked: it is tried again the
    next time. Raises ValueError for fewer days than `SHORTEST_RETENTION_DAYS`.
    """
    if keep_days < SHORTEST_RETENTION_DAYS:
        raise ValueError(f"messages are kept for {SHORTEST_RETENTION_DAYS} days at least")
    kept_from = lower_bound(now - dt.timedelta(days=keep_days))
    dropped, left = list[str](), list[str]()
    for table in PARTITIONED:
        with connection.cursor() as cursor:
            cursor.execute(_MONTHS, [table])
            over = [name for name, high in cursor.fetchall() if high and high <= kept_from]
        for name in over:
            (dropped if _drop(table, name, keep_days) else left).append(name)
    return dropped, left


def _drop(table: str, name: str, keep_days: int) -> bool:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT drop_partition(%s, %s, %s)", [table, name, keep_days])
            return bool(cursor.fetchone()[0])
    except OperationalError:  # somebody reads or writes for longer than the lock may take
        return False
