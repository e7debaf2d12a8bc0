"""Wake-ups: only what is missing is started, and Valkey may forget everything or be away."""

from __future__ import annotations

import datetime as dt
import socket
import time
from collections.abc import Iterator

import pytest
import redis
from django.db import DatabaseError, connection, transaction
from django.utils import timezone
from pytest_django import Settings

from esp.kit import valkey
from esp.kit.partitions import ensure_partitions
from sending.dispatch import jobs, posts, pumps, tasks
from sending.dispatch.claims import claim
from sending.messages.models import Batch, Message, QueueEntry
from tests import make
from tests.cast import Cast


@pytest.fixture(autouse=True)
def nothing_known(settings: Settings) -> Iterator[None]:
    """Valkey counts no pump, before and after."""
    settings.DELIVERY_PUMPS = 2

    def forget() -> None:
        try:
            names = [
                f"mw:{kind}:{stream}" for kind in ("pumps", "posts") for stream in jobs.DELIVER
            ]
            valkey.client().delete(*names)
        except redis.RedisError:
            valkey.client.cache_clear()

    forget()
    yield
    forget()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the jobs that were sent to the broker."""
    names: list[str] = []
    monkeypatch.setattr(tasks, "enqueue_now", lambda name, **_: names.append(name))
    return names


def queue(cast: Cast, stream: str, count: int = 1, **entry: object) -> Batch:
    batch = make.batch(cast.acme, stream=stream)
    content = make.message_content(make.domain(cast.acme))
    now = timezone.now()
    for _ in range(count):
        message = make.message(batch, content)
        values = {"due_at": now, "expires_at": now + dt.timedelta(days=1), **entry}
        QueueEntry.objects.create(
            message_id=message.pk, tenant_id=cast.acme.pk, batch_id=batch.pk,
            domain="bigmail.test", **values,
        )  # fmt: skip
    return batch


def test_an_empty_queue_wakes_nobody(db: None, started: list[str]) -> None:
    tasks.wake()
    assert started == []


def test_only_the_stream_with_work_is_woken(cast: Cast, started: list[str]) -> None:
    queue(cast, "broadcast")
    tasks.wake()
    assert started == [jobs.DELIVER_BROADCAST] * 2


def test_only_what_is_missing_is_started(cast: Cast, started: list[str]) -> None:
    queue(cast, "broadcast")
    pumps.beat("broadcast", "one", seconds=20)
    tasks.wake()
    assert started == [jobs.DELIVER_BROADCAST]
    pumps.beat("broadcast", "two", seconds=20)
    tasks.wake()
    assert len(started) == 1


def test_each_node_gets_its_own_pumps(
    cast: Cast, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(tasks, "enqueue_now", lambda name, *, queue, **_: sent.append(queue))
    for node, worker, processes in (("a", "w1", 2), ("a", "w2", 1), ("b", "w1", 2)):
        settings.DELIVERY_NODE = node
        posts.announce("broadcast", worker=worker, processes=processes)
    pumps.beat("broadcast", "one", seconds=20)
    queue(cast, "broadcast")
    tasks.wake()
    assert sorted(sent) == ["broadcast@a"] * 3 + ["broadcast@b"]
    posts.withdraw("broadcast", worker="w1", processes=2)
    assert posts.processes_by_node("broadcast") == {"a": 3}
    assert pumps.alive("broadcast", "a") == 0
    assert pumps.alive("broadcast") == 1


def test_a_node_whose_workers_are_silent_gets_no_tasks(cast: Cast, started: list[str]) -> None:
    posts.announce("broadcast", worker="w", processes=9)
    name = valkey.client().zrange("mw:posts:broadcast", 0, -1)[0]
    valkey.client().zadd("mw:posts:broadcast", {name: time.time() - 60})
    queue(cast, "broadcast")
    tasks.wake()
    assert started == [jobs.DELIVER_BROADCAST] * 2  # by the shared queue


def test_a_pump_without_a_sign_of_life_is_replaced(cast: Cast, started: list[str]) -> None:
    queue(cast, "broadcast")
    pumps.beat("broadcast", "one", seconds=-31)
    pumps.beat("broadcast", "two")
    assert pumps.alive("broadcast") == 1
    pumps.end("broadcast", "two")
    assert pumps.alive("broadcast") == 0
    tasks.wake()
    assert len(started) == 2


def test_when_valkey_forgot_everything_the_pumps_are_started_again(
    cast: Cast, started: list[str]
) -> None:
    queue(cast, "transactional")
    for name in ("one", "two"):
        pumps.beat("transactional", name, seconds=20)
    valkey.client().delete("mw:pumps:transactional")
    tasks.wake()
    assert started == [jobs.DELIVER_TRANSACTIONAL] * 2


def test_without_valkey_nothing_breaks(cast: Cast, started: list[str], settings: Settings) -> None:
    queue(cast, "broadcast")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings.REDIS_URL = f"redis://127.0.0.1:{port}/0"
    valkey.client.cache_clear()
    try:
        pumps.beat("broadcast", "one")
        pumps.end("broadcast", "one")
        assert pumps.alive("broadcast") == 0
        assert valkey.take("any", rate=1, burst=1).allowed
        tasks.wake()
    finally:
        valkey.client.cache_clear()
    assert started == [jobs.DELIVER_BROADCAST] * 2


def test_transactional_mail_is_claimed_past_a_campaign(cast: Cast) -> None:
    queue(cast, "broadcast", 30)
    alone = queue(cast, "transactional")
    got = claim(
        stream="transactional", limit=10, worker="t", now=timezone.now(),
        lease=dt.timedelta(minutes=1),
    )  # fmt: skip
    assert [job.batch_id for job in got] == [alone.pk]


def test_messages_whose_life_is_over_are_ended(cast: Cast) -> None:
    batch = queue(cast, "broadcast", 3, expires_at=timezone.now() - dt.timedelta(seconds=1))
    Batch.unscoped.update(created_at=timezone.now() - dt.timedelta(days=4))
    tasks.expire()
    statuses = set(Message.unscoped.filter(batch_id=batch.pk).values_list("status", flat=True))
    assert statuses == {"expired"}
    assert not QueueEntry.objects.exists()


def test_months_to_come_get_their_tables_once(db: None) -> None:
    day = dt.date(2041, 12, 24)
    made = ensure_partitions(day)
    assert len(made) == 9
    assert "sending_event_2042_02" in made
    assert ensure_partitions(day) == []


@pytest.mark.django_db
def test_only_the_named_tables_get_partitions() -> None:
    sql = "SELECT make_partition(%s, 'x', %s, %s)"
    low, high = "00000000-0000-7000-8000-000000000000", "00000000-0000-7000-8000-000000000001"
    for table in ("tenants_user", "sending_message; DROP TABLE tenants_user", ""):
        with (
            pytest.raises(DatabaseError, match="is not partitioned"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(sql, [table, low, high])


@pytest.mark.django_db
def test_the_webs_role_makes_no_tables() -> None:
    sql = "SELECT has_function_privilege(%s, 'make_partition(text,text,uuid,uuid)', 'execute')"
    with connection.cursor() as cursor:
        cursor.execute(sql, ["mailwright_app"])
        assert cursor.fetchone() == (False,)
        cursor.execute(sql, ["mailwright_worker"])
        assert cursor.fetchone() == (True,)
