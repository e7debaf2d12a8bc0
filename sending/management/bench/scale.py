"""`manage.py bench scale`: what a long queue costs, and what is left of it in the tables.

Contacts are made inside the database. A campaign to all of them is prepared, then some of its
messages are claimed and recorded as delivered with nobody else at work, once with a short queue and
once with the whole of it waiting: the figures are CPU time, of this process and of PostgreSQL. At
the end the rest is taken off the queue; the tables are measured before and after VACUUM, and after
the month's partitions are dropped as retention drops them.
"""

from __future__ import annotations

import datetime as dt
import os
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from django.db import connection
from django.utils import timezone

from esp.kit.partitions import PARTITIONED
from sending.campaigns.models import Campaign
from sending.campaigns.preparation import prepare_campaign
from sending.dispatch import results
from sending.dispatch.claims import Job, claim
from sending.dispatch.work import schedule_for
from sending.engine.ports import Lane, Outcome
from sending.management.bench.proc import (
    describe_machine,
    parent_of,
    peak_rss_mb,
    tree_cpu_seconds,
)
from sending.management.bench.workspace import Workspace, make_workspace, start_campaign
from sending.messages.queue import clear_cancelled_chunk

_FEW = 10_000
_SAMPLE = 8_000
_CLAIM, _RECORD = 320, 500
_TABLES = (*PARTITIONED, "sending_queueentry")

_CONTACTS = """
INSERT INTO sending_contact (id, tenant_id, email, email_norm, first_name, last_name, attributes,
                             created_at, updated_at)
SELECT gen_random_uuid(), %(tenant)s, address, address, 'Ada', 'Lindberg',
       jsonb_build_object('city', 'Berlin', 'company', 'Northwind', 'plan', 'gold',
                          'points', n %% 5000, 'interests', 'roses,compost,herbs',
                          'renews_on', '2027-01-15', 'coupon', 'SPRING' || n),
       now(), now()
FROM (SELECT n, %(name)s || n || '@inbox' || lpad((n %% 20 + 1)::text, 2, '0') || '.test' AS address
      FROM generate_series(%(first)s::bigint, %(last)s::bigint) n) AS made
"""
_SUBSCRIPTIONS = """
INSERT INTO sending_subscription (id, tenant_id, contact_id, contact_list_id, status, source,
                                  created_at, updated_at)
SELECT gen_random_uuid(), tenant_id, id, %(list)s, 'subscribed', 'bench', now(), now()
FROM sending_contact WHERE tenant_id = %(tenant)s ORDER BY id
"""


def bench_scale(*, rows: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure and return the figures; `say` takes progress."""
    few, _, _, _ = _prepared("few", min(rows, _FEW))
    short = _cost(few, min(_SAMPLE, rows // 2))
    _clear(few)
    say(f"preparing {rows:,} messages")
    many, made, seconds, cpu = _prepared("many", rows)
    sizes = {"after_fill": _sizes()}
    waiting = _cost(many, min(_SAMPLE, rows // 2))
    say("clearing the queue")
    _clear(many)
    sizes["after_sent"] = _sizes()
    _vacuum()
    sizes["after_vacuum"] = _sizes()
    _drop_month()
    sizes["after_retention"] = _sizes()
    return {
        "bench": "scale",
        "rows": made,
        "prepare_rows_per_second": round(made / seconds),
        "prepare_cpu_us_per_row": round(cpu * 1e6 / made, 1),
        "cost_us_per_message_short_queue": short,
        "cost_us_per_message_long_queue": waiting,
        "ratio": round(sum(waiting.values()) / max(sum(short.values()), 1e-9), 3),
        **{f"bytes_{when}": of_table for when, of_table in sizes.items()},
        "peak_rss_mb": round(peak_rss_mb(os.getpid()), 1),
        "machine": describe_machine(),
    }


def _prepared(name: str, rows: int) -> tuple[Campaign, int, float, float]:
    """Make `rows` contacts and a campaign to them.

    Returns it, its messages, and the seconds of their preparation by the clock and of PostgreSQL's
    CPU time.
    """
    workspace = make_workspace(name=name.capitalize(), host=f"{name}.example")
    _make_contacts(workspace, name, rows)
    campaign = start_campaign(workspace, sign="none")
    postgres = _postgres()
    start, cpu = time.perf_counter(), tree_cpu_seconds(postgres)
    made = prepare_campaign(tenant_id=workspace.tenant.pk, campaign_id=campaign.pk)
    return campaign, made, time.perf_counter() - start, tree_cpu_seconds(postgres) - cpu


def _postgres() -> int:
    """Return the process id of PostgreSQL, whose children do its work."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return parent_of(int(cursor.fetchone()[0]))


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
    """Claim and record `messages`; returns CPU microseconds a message by process."""
    postgres = _postgres()
    schedule = schedule_for("broadcast")
    own, server = time.process_time(), tree_cpu_seconds(postgres)
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
        "postgres": round((tree_cpu_seconds(postgres) - server) * per, 1),
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


def _clear(campaign: Campaign) -> None:
    """Take what still waits off the queue, by the product's own way for cancelled campaigns."""
    batch = campaign.batch
    assert batch is not None
    later = timezone.now() + dt.timedelta(hours=1)  # leases are over by then
    while clear_cancelled_chunk(batch, now=later, size=20_000):
        pass


def _vacuum(tables: Sequence[str] = _TABLES) -> None:
    """Vacuum as the owner: workers may not."""
    with psycopg.connect(os.environ["OWNER_DATABASE_URL"], autocommit=True) as owner:
        owner.execute(f"VACUUM ANALYZE {', '.join(tables)}".encode())


def _drop_month() -> None:
    """Drop this month's partitions as the owner: the product's own way refuses young ones."""
    month = f"{timezone.now():%Y_%m}"
    with psycopg.connect(os.environ["OWNER_DATABASE_URL"], autocommit=True) as owner:
        for table in PARTITIONED:
            owner.execute(f"DROP TABLE {table}_{month}".encode())


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
