"""The database or Valkey slow, full, read-only or gone under a worker: it degrades and resumes."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from django.db import DatabaseError, InterfaceError, connection

from esp.kit import valkey
from esp.stack.valkey import ValkeyServer
from sending.dispatch.worker import DeliveryWorker
from sending.engine.recorder import RecordFailed
from sending.messages.models import Message, QueueEntry
from tests.deliverability.alerts.test_health import SlowProxy, valkey_at
from tests.sending.dispatch.conftest import World
from tests.sending.dispatch.test_delivery import queue, run_until_empty, statuses

_PEOPLE = ["ada@plainmail.test", "bo@plainmail.test", "cy@plainmail.test"]


class Superuser:
    """Does to the tests' database what befalls a database."""

    def __init__(self) -> None:
        passwords = next(Path(os.environ["MAILWRIGHT_TEST_SERVERS"]).glob("**/*.json"))
        values = connection.settings_dict
        self._name = values["NAME"]
        self._connection = psycopg.connect(
            host=values["HOST"], port=values["PORT"], dbname="postgres", user="postgres",
            password=json.loads(passwords.read_text())["postgres"], autocommit=True,
        )  # fmt: skip

    def take_no_writes(self) -> None:
        """Make the database read-only, for those connected as well: they must come anew."""
        self._do(f'ALTER DATABASE "{self._name}" SET default_transaction_read_only = on')
        self._cut()

    def take_writes(self) -> None:
        """Undo it."""
        self._do(f'ALTER DATABASE "{self._name}" RESET default_transaction_read_only')
        self._cut()

    def close(self) -> None:
        self.take_writes()
        self._connection.close()

    def _cut(self) -> None:
        self._do(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self._name}'"
        )
        connection.close()

    def _do(self, sql: str) -> None:
        self._connection.execute(sql)


@pytest.fixture
def superuser(world: World) -> Iterator[Superuser]:
    superuser = Superuser()
    yield superuser
    superuser.close()


def slice_that_may_fail(worker: DeliveryWorker) -> None:
    try:
        worker.run_slice(seconds=3.0)
    except (DatabaseError, InterfaceError, RecordFailed):
        return  # the task fails, and the next one begins anew


def delivered(world: World) -> Counter[str]:
    return Counter(fact.recipient for fact in world.client.ledger(kinds=["delivered"]))


def test_a_read_only_database_sends_nothing_and_all_goes_on_by_itself(
    world: World, worker: DeliveryWorker, superuser: Superuser
) -> None:
    batch = queue(world, _PEOPLE)
    superuser.take_no_writes()
    slice_that_may_fail(worker)
    assert delivered(world) == Counter()
    superuser.take_writes()
    run_until_empty(worker, batch)
    assert delivered(world) == Counter(_PEOPLE)
    assert set(statuses(batch).values()) == {"delivered"}


@pytest.mark.timeout(120)
def test_what_left_while_the_database_stopped_taking_writes_is_recorded_and_not_sent_again(
    world: World, worker: DeliveryWorker, superuser: Superuser, settings: Any, tmp_path: Path
) -> None:
    people = [f"ada{n}@slowmail.test" for n in range(6)]
    batch = queue(world, people)

    def stop_once_leased() -> None:
        while superuser._connection.closed is False:
            with psycopg.connect(**_dsn()) as own:
                row = own.execute(
                    "SELECT count(*) FROM sending_queueentry WHERE worker <> ''"
                ).fetchone()
            if row is not None and row[0]:
                superuser.take_no_writes()
                return
            time.sleep(0.01)

    thread = threading.Thread(target=stop_once_leased)
    thread.start()
    slice_that_may_fail(worker)
    thread.join(60)
    superuser.take_writes()
    assert "delivered" not in statuses(batch).values(), "it was recorded before: nothing is shown"
    QueueEntry.objects.update(due_at="2020-01-01T00:00:00Z")  # the leases run out
    run_until_empty(worker, batch, seconds=60.0)
    assert set(statuses(batch).values()) == {"delivered"}
    assert delivered(world) == Counter(people)


def _dsn() -> dict[str, Any]:
    values = connection.settings_dict
    return {
        "host": values["HOST"], "port": values["PORT"], "dbname": values["NAME"],
        "user": values["USER"], "password": values["PASSWORD"],
    }  # fmt: skip


def test_a_slow_database_slows_the_mail_and_doubles_none(world: World) -> None:
    batch = queue(world, _PEOPLE)
    values = connection.settings_dict
    host, port = values["HOST"], values["PORT"]
    proxy = SlowProxy(host, int(port), 0.1)
    values["PORT"] = str(proxy.port)
    try:
        worker = DeliveryWorker("broadcast")  # its thread connects by the proxy
        run_until_empty(worker, batch, seconds=60.0)
        worker.close()
    finally:
        values["PORT"] = port
        proxy.close()
    assert delivered(world) == Counter(_PEOPLE)
    assert Message.unscoped.filter(status="delivered", attempts=1).count() == len(_PEOPLE)


@pytest.mark.parametrize("trouble", ["gone", "full", "slow"])
def test_mail_goes_on_without_valkey(
    world: World, settings: Any, tmp_path: Path, trouble: str
) -> None:
    batch = queue(world, _PEOPLE)
    server = ValkeyServer(tmp_path / "valkey", maxmemory="4mb")
    server.start()
    parts = urlsplit(server.url)
    proxy = SlowProxy(parts.hostname or "", parts.port or 0, 0.15)
    try:
        url = server.url
        if trouble == "gone":
            server.kill()
        elif trouble == "slow":
            url = parts._replace(
                netloc=parts.netloc.rpartition("@")[0] + f"@127.0.0.1:{proxy.port}"
            ).geturl()
        with valkey_at(settings, url):
            if trouble == "full":
                _fill()
            worker = DeliveryWorker("broadcast")
            run_until_empty(worker, batch, seconds=60.0)
            worker.close()
    finally:
        proxy.close()
        server.stop()
    assert delivered(world) == Counter(_PEOPLE)
    assert set(statuses(batch).values()) == {"delivered"}


def _fill() -> None:
    """Fill it up, and keep it from throwing out what has a time to live."""
    client = valkey.client()
    client.config_set("maxmemory-policy", "noeviction")
    for number in range(400):
        try:
            client.set(f"filling:{number}", b"x" * 20_000)
        except redis.exceptions.OutOfMemoryError:
            return
    pytest.fail("it does not get full")
