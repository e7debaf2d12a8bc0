"""Recording stays cheap in a log that is full of final messages and was analysed long ago."""

from __future__ import annotations

import re
import uuid
from typing import Any, LiteralString

import pytest
from django.db import connection
from django.utils import timezone

from esp.kit.arrays import raw_cursor
from sending.dispatch import results
from sending.dispatch.claims import jobs_for
from sending.dispatch.work import schedule_for
from sending.engine.ports import Outcome
from sending.messages.models import Message, QueueEntry
from sending.messages.queue import UUID7_SQL
from tests import make
from tests.cast import Cast

_BATCH = 300


def copies(message: Message, count: int, status: str) -> list[uuid.UUID]:
    """Copy a message so often, in this state; returns the keys."""
    columns = [f.column for f in Message._meta.concrete_fields if f.column not in ("id", "status")]
    names = ", ".join(f'"{name}"' for name in columns)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO sending_message (id, status, {names}) SELECT {UUID7_SQL}, %s, {names}"
            " FROM sending_message, generate_series(1, %s) WHERE id = %s RETURNING id",
            [status, count, message.pk],
        )
        return [row[0] for row in cursor.fetchall()]


class Explained:
    """A cursor that keeps the plan of each statement."""

    def __init__(self, plans: list[str]) -> None:
        self._plans = plans

    def execute(self, statement: LiteralString, params: Any) -> Any:
        rows = raw_cursor().execute("EXPLAIN " + statement, params).fetchall()
        self._plans.append("\n".join(str(row[0]) for row in rows))
        return raw_cursor().execute(statement, params)


def test_the_planner_knows_that_what_is_recorded_is_open(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = make.message_content(make.domain(cast.acme, "acme.example"))
    batch = make.batch(cast.acme)
    message = make.message(batch, content)
    copies(message, 5000, "delivered")
    Message.unscoped.filter(pk=message.pk).update(status="delivered")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE sending_message")
    now = timezone.now()
    keys = copies(message, _BATCH, "queued")
    QueueEntry.objects.bulk_create(
        QueueEntry(message_id=key, tenant_id=cast.acme.pk, batch_id=batch.pk, worker="w",
                   domain="bigmail.test", due_at=now, expires_at=now)
        for key in keys
    )  # fmt: skip
    jobs = jobs_for(keys)
    outcome = Outcome("delivered", "body", "none/delivered", "250 ok", now, smtp_code=250)
    verdicts = [results.judge(job, outcome, schedule_for("broadcast")) for job in jobs]
    plans: list[str] = []
    monkeypatch.setattr(results, "raw_cursor", lambda: Explained(plans))
    results.record(verdicts, worker="w")
    assert Message.unscoped.filter(pk__in=keys, status="delivered").count() == _BATCH
    assert len(plans) == 1
    # With one or two expected, results and messages are joined by going through all of each.
    expected = re.search(r"on sending_message_\w+ message_1 .*rows=(\d+)", plans[0])
    assert expected is not None, plans[0]
    assert int(expected.group(1)) >= _BATCH // 4
