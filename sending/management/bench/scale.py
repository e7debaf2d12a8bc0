"""`manage.py bench scale`: preparing a large campaign, what a long queue costs, what is left of it.

Contacts are made inside the database. A campaign to all of them is prepared by several processes,
then some of its messages are claimed and recorded as delivered with nobody else at work, once with
a short queue and once with the whole of it waiting: the figures are CPU time, of this process and
of PostgreSQL. At the end the rest is taken off the queue; the tables are measured before and after
VACUUM, and after the month's partitions are dropped as retention drops them.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import psycopg
from django.conf import settings
from django.db import connection
from django.utils import timezone

from esp.kit.partitions import PARTITIONED
from sending.campaigns.models import Campaign
from sending.campaigns.preparation import prepare_campaign
from sending.dispatch import results
from sending.dispatch.claims import Job, claim
from sending.dispatch.work import schedule_for
from sending.engine.ports import Lane, Outcome
from sending.management.bench.delivery import child
from sending.management.bench.proc import (
    cpu_seconds,
    describe_machine,
    parent_of,
    peak_rss_mb,
    tree_cpu_seconds,
)
from sending.management.bench.workspace import Workspace, make_workspace, start_campaign
from sending.messages.models import Batch
from sending.messages.queue import clear_cancelled_chunk

_FEW = 10_000
_SAMPLE = 8_000
_CLAIM, _RECORD = 320, 500
_TABLES = (*PARTITIONED, "sending_queueentry")

# Keys rise as those of an import do (UUIDv7), without a question to the kernel for each.
_RISING_KEY = (
    "(lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7' || "
    "left(md5(address), 3) || '8' || right(md5(address), 15))::uuid"
)
_CONTACTS = f"""
INSERT INTO sending_contact (id, tenant_id, email, email_norm, first_name, last_name, attributes,
                             created_at, updated_at)
SELECT {_RISING_KEY}, %(tenant)s, address, address, 'Ada', 'Lindberg',
       jsonb_build_object('city', 'Berlin', 'company', 'Northwind', 'plan', 'gold',
                          'points', n %% 5000, 'interests', 'roses,compost,herbs',
                          'renews_on', '2027-01-15', 'coupon', 'SPRING' || n),
       now(), now()
FROM (SELECT n, %(name)s || n || '@inbox' || lpad((n %% 20 + 1)::text, 2, '0') || '.test' AS address
      FROM generate_series(%(first)s::bigint, %(last)s::bigint) n) AS made
"""  # noqa: S608 (a constant)
_SUBSCRIPTIONS = """
INSERT INTO sending_subscription (id, tenant_id, contact_id, contact_list_id, status, source,
                                  created_at, updated_at)
SELECT id, tenant_id, id, %(list)s, 'subscribed', 'bench', now(), now()
FROM sending_contact WHERE tenant_id = %(tenant)s ORDER BY id
"""
# Making the contacts is not measured, and nothing that is measured reads these: indexes for pages
# of contacts, and the constraint whose check waits in memory for every row of a statement.
_EASE = """
DROP INDEX IF EXISTS contact_search, contact_newest;
ALTER TABLE sending_contact DROP CONSTRAINT IF EXISTS contact_email_unique;
DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT conname FROM pg_constraint
                WHERE conrelid = 'sending_subscription'::regclass AND contype = 'f' LOOP
        EXECUTE format('ALTER TABLE sending_subscription DROP CONSTRAINT %I', name);
    END LOOP;
END $$
"""


def bench_scale(*, rows: int, preparers: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure and return the figures; `say` takes progress, also the figures so far."""
    result: dict[str, Any] = {"bench": "scale", "rows": rows, "preparers": preparers}

    def note(**figures: Any) -> None:
        result.update(figures)
        say(json.dumps(figures))

    _as_owner(_EASE)
    few, _ = _prepared("few", min(rows, _FEW), 1)
    short = _cost(few, min(_SAMPLE, rows // 2))
    _clear(few, 1)
    _vacuum()
    empty = _sizes()
    many, figures = _prepared("many", rows, preparers)
    note(**figures)
    note(bytes_after_fill=_sizes(), bytes_per_row=_bytes_per_row(_sizes(), empty, rows))
    waiting = _cost(many, min(_SAMPLE, rows // 2))
    note(
        cost_us_per_message_short_queue=short,
        cost_us_per_message_long_queue=waiting,
        ratio=round(sum(waiting.values()) / max(sum(short.values()), 1e-9), 3),
    )
    begun = time.perf_counter()
    _clear(many, preparers)
    note(bytes_after_sent=_sizes(), clear_seconds=round(time.perf_counter() - begun, 1))
    _vacuum()
    note(bytes_after_vacuum=_sizes())
    _drop_month()
    note(bytes_after_retention=_sizes())
    before, after = result["bytes_after_vacuum"], result["bytes_after_retention"]
    note(
        growth_after_sent=_ratios(result["bytes_after_sent"], result["bytes_after_fill"]),
        given_back_by_retention=sum(before.values()) - sum(after.values()),
        peak_rss_mb=round(peak_rss_mb(os.getpid()), 1),
        machine=describe_machine(),
    )
    return result


def _bytes_per_row(sizes: dict[str, int], empty: dict[str, int], rows: int) -> dict[str, float]:
    return {name: round((size - empty[name]) / rows, 1) for name, size in sizes.items()}


def _ratios(sizes: dict[str, int], before: dict[str, int]) -> dict[str, float]:
    return {name: round(size / before[name], 2) for name, size in sizes.items() if before[name]}


def _prepared(name: str, rows: int, preparers: int) -> tuple[Campaign, dict[str, Any]]:
    """Make `rows` contacts and a campaign to them; return it and what its preparation cost."""
    workspace = make_workspace(name=name.capitalize(), host=f"{name}.example")
    _make_contacts(workspace, name, rows)
    campaign = start_campaign(workspace, sign="none")
    postgres = parent_of(_backend())
    log = _log_position()
    with ExitStack() as stack:
        children = [
            stack.enter_context(child(_command("scale-prepare", campaign), _environment(preparers)))
            for _ in range(preparers)
        ]
        for one in children:
            one.hear()  # "ready"
        start, cpu = time.perf_counter(), tree_cpu_seconds(postgres)
        for one in children:
            one.say("go")
        answers = [json.loads(one.hear()) for one in children]
        seconds = time.perf_counter() - start
        cpu = tree_cpu_seconds(postgres) - cpu
    made = sum(one["made"] for one in answers)
    if made != rows:
        raise RuntimeError(f"{made} messages were made of {rows}")
    return campaign, {
        "prepare_seconds": round(seconds, 1),
        "prepare_rows_per_second": round(made / seconds),
        "prepare_cpu_us_per_row": {
            "postgres": round(cpu * 1e6 / made, 1),
            "preparers": round(sum(one["cpu_seconds"] for one in answers) * 1e6 / made, 2),
        },
        "prepare_wal_bytes_per_row": round((_log_position() - log) / made),
    }


def run_child(kind: str, campaign_id: uuid.UUID) -> None:
    """Be one of the processes that prepare, or clear the queue: for `manage.py bench` itself."""
    campaign = Campaign.unscoped.select_related("batch").get(pk=campaign_id)
    _tell("ready")
    sys.stdin.readline()
    begun = time.process_time()
    if kind == "scale-prepare":
        made = prepare_campaign(tenant_id=campaign.tenant_id, campaign_id=campaign.pk)
    else:
        assert campaign.batch is not None
        made = _clear_batch(campaign.batch)
    _tell(json.dumps({"made": made, "cpu_seconds": time.process_time() - begun}))
    sys.stdin.readline()


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _command(kind: str, campaign: Campaign) -> list[str]:
    manage = str(settings.ROOT / "manage.py")
    return [sys.executable, manage, "bench", kind, str(campaign.pk)]


def _environment(preparers: int) -> dict[str, str]:
    return {"CAMPAIGN_PREPARERS": str(preparers)}


def _log_position() -> int:
    """Return how many bytes PostgreSQL has written to its log (WAL)."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")
        return int(cursor.fetchone()[0])


def _backend() -> int:
    """Return the process id of PostgreSQL's process for this connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def _make_contacts(workspace: Workspace, name: str, rows: int) -> None:
    with connection.cursor() as cursor:
        for first in range(1, rows + 1, 500_000):
            last = min(first + 499_999, rows)
            cursor.execute(
                _CONTACTS,
                {"tenant": workspace.tenant.pk, "name": name, "first": first, "last": last},
            )
        cursor.execute(
            _SUBSCRIPTIONS, {"tenant": workspace.tenant.pk, "list": workspace.contact_list.pk}
        )
    _vacuum(("sending_contact", "sending_subscription"))


def _cost(campaign: Campaign, messages: int) -> dict[str, float]:
    """Claim and record `messages`; returns CPU microseconds a message, PostgreSQL's its backend's.

    What PostgreSQL does in the background after a fill (vacuum, checkpoints) is not counted.
    """
    backend = _backend()
    schedule = schedule_for("broadcast")
    own, server = time.process_time(), cpu_seconds(backend)
    done, waiting = 0, list[Job]()
    while done < messages:
        waiting += claim(
            stream="broadcast",
            limit=_CLAIM,
            worker="bench",
            now=timezone.now(),
            lease=dt.timedelta(minutes=10),
        )
        if len(waiting) >= _RECORD or not waiting:
            verdicts = [results.judge(job, _delivered(job), schedule) for job in waiting]
            results.record(verdicts, worker="bench")
            done, waiting = done + len(waiting), []
            if not verdicts:
                break
    per = 1e6 / max(done, 1)
    return {
        "worker": round((time.process_time() - own) * per, 1),
        "postgres": round((cpu_seconds(backend) - server) * per, 1),
    }


def _delivered(job: Job) -> Outcome:
    """Return the outcome of a delivery as the engine gives it."""
    return Outcome(
        kind="delivered",
        phase="body",
        classification="none/delivered",
        text="250 2.0.0 Ok: queued as 4XyZ123abc",
        at=timezone.now(),
        smtp_code=250,
        enhanced_code="2.0.0",
        mx_host=f"mx.{job.domain}",
        mx_address="127.0.40.1",
        source_address="127.0.2.1",
        timings={"mail": 0.0012, "rcpt": 0.0011, "data": 0.0023, "body": 0.0045},
        lane=Lane(str(uuid.UUID(int=1)), f"mx.{job.domain}"),
    )


def _clear(campaign: Campaign, processes: int) -> None:
    """Take what still waits off the queue, by the product's own way for cancelled campaigns."""
    with ExitStack() as stack:
        children = [
            stack.enter_context(child(_command("scale-clear", campaign))) for _ in range(processes)
        ]
        for one in children:
            one.hear()
        for one in children:
            one.say("go")
        for one in children:
            one.hear()


def _clear_batch(batch: Batch) -> int:
    later, cleared = timezone.now() + dt.timedelta(hours=1), 0  # leases are over by then
    while chunk := clear_cancelled_chunk(batch, now=later, size=20_000):
        cleared += chunk
    return cleared


def _vacuum(tables: Sequence[str] = _TABLES) -> None:
    """Vacuum as the owner: workers may not."""
    _as_owner(f"VACUUM ANALYZE {', '.join(tables)}")


def _drop_month() -> None:
    """Drop this month's partitions as the owner: the product's own way refuses young ones."""
    month = f"{timezone.now():%Y_%m}"
    _as_owner("; ".join(f"DROP TABLE {table}_{month}" for table in PARTITIONED))


def _as_owner(sql: str) -> None:
    with psycopg.connect(os.environ["OWNER_DATABASE_URL"], autocommit=True) as owner:
        owner.execute(sql.encode())


def _sizes() -> dict[str, int]:
    """Return the bytes of each table with its partitions and indexes."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT base.relname, sum(pg_total_relation_size(part.relid))
            FROM pg_class base, LATERAL pg_partition_tree(base.oid) part
            WHERE base.relname = ANY(%s) AND part.isleaf GROUP BY 1
            UNION ALL
            SELECT relname, pg_total_relation_size(oid) FROM pg_class
            WHERE relname = ANY(%s) AND relkind = 'r' AND NOT relispartition
            """,
            [list(_TABLES), list(_TABLES)],
        )
        return {name: int(size) for name, size in cursor.fetchall()}
