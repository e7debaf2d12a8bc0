"""The checks of servers, against real ones that are slow, full, read-only, silent or gone."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings as django_settings
from django.db import connection

from deliverability.alerts.health import Watch, silent_resolvers
from deliverability.alerts.models import Alert
from deliverability.alerts.selectors import open_alerts
from deliverability.alerts.services import remembered
from esp.kit import pauses, valkey
from esp.simulator.config import SimulatorConfig
from esp.simulator.server import SimulatorThread
from esp.stack.valkey import ValkeyServer


@pytest.fixture(autouse=True)
def dns_server(transactional_db: None, tmp_path: Path, settings: Any) -> Iterator[str]:
    """A name server that answers, so that only what a test breaks is broken."""
    with SimulatorThread(SimulatorConfig(data_dir=tmp_path / "simulator")) as thread:
        settings.DNS_RESOLVERS = [thread.addresses["dns"]]
        yield thread.addresses["dns"]
    pauses.resume_claims("dns")


def codes() -> set[str]:
    return {alert.code for alert in open_alerts()}


@contextmanager
def valkey_at(settings: Any, url: str) -> Iterator[None]:
    before = django_settings.REDIS_URL
    settings.REDIS_URL = url
    valkey.client.cache_clear()
    yield
    settings.REDIS_URL = before
    valkey.client.cache_clear()


def test_all_is_well_while_all_is_well() -> None:
    assert Watch().look() == []
    assert codes() == set()


def test_a_valkey_that_falls_and_comes_back_empty(tmp_path: Path, settings: Any) -> None:
    server = ValkeyServer(tmp_path)
    server.start()
    try:
        with valkey_at(settings, server.url):
            watch = Watch()
            assert watch.look() == []
            server.kill()
            assert watch.look() == ["valkey-down"]
            assert codes() == {"valkey-down"}
            server.start()
            assert watch.look() == ["valkey-restarted"]
            assert codes() == {"valkey-restarted"}
            assert watch.look() == []
            assert Alert.objects.get(code="valkey-down").closed_at is not None
    finally:
        server.stop()


def test_a_full_valkey(tmp_path: Path, settings: Any) -> None:
    server = ValkeyServer(tmp_path, maxmemory="4mb")
    server.start()
    try:
        with valkey_at(settings, server.url):
            client = valkey.client()
            client.config_set("maxmemory-policy", "noeviction")
            watch = Watch()
            for number in range(400):
                try:
                    client.set(f"filling:{number}", b"x" * 20_000)
                except valkey.redis.exceptions.OutOfMemoryError:
                    break
            else:
                pytest.fail("it does not get full")
            assert watch.look() == ["valkey-full"]
            client.flushall()
            assert watch.look() == []
            assert codes() == set()
    finally:
        server.stop()


class SlowProxy:
    """Passes bytes on to a server, each answer `seconds` late."""

    def __init__(self, host: str, port: int, seconds: float) -> None:
        self.seconds = seconds
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            for pair in ((near, far, 0.0), (far, near, self.seconds)):
                threading.Thread(target=self._pass, args=pair, daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, sink: socket.socket, seconds: float) -> None:
        try:
            while data := source.recv(65536):
                time.sleep(seconds)
                sink.sendall(data)
        except OSError:
            return
        finally:
            sink.close()

    def close(self) -> None:
        self._listener.close()


def test_a_slow_valkey(settings: Any) -> None:
    parts = urlsplit(django_settings.REDIS_URL)
    proxy = SlowProxy(parts.hostname or "", parts.port or 0, 0.15)
    netloc = parts.netloc.rpartition("@")[0] + f"@127.0.0.1:{proxy.port}"
    with valkey_at(settings, parts._replace(netloc=netloc).geturl()):
        assert Watch().look() == ["valkey-slow"]
    proxy.close()
    assert Watch().look() == []
    assert codes() == set()


def test_a_slow_database() -> None:
    settings_dict = connection.settings_dict
    host, port = settings_dict["HOST"], settings_dict["PORT"]
    proxy = SlowProxy(host, int(port), 0.6)
    connection.close()
    settings_dict["PORT"] = str(proxy.port)
    try:
        assert "postgres-slow" in Watch().look()
    finally:
        connection.close()
        settings_dict["PORT"] = port
        proxy.close()
    assert codes() == {"postgres-slow"}
    assert Watch().look() == []
    assert codes() == set()


def test_a_read_only_database_is_told_once_it_takes_writes_again() -> None:
    valkey.client().delete("mw:alerts:remembered")
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    assert Watch().look() == ["postgres-read-only"]
    assert [one["code"] for one in remembered()] == ["postgres-read-only"]
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = off")
    watch = Watch()
    watch.look()
    watch.look()
    assert remembered() == []
    alert = Alert.objects.get(code="postgres-read-only")
    assert alert.closed_at is not None


def test_a_database_that_is_away_is_told_once_it_is_back() -> None:
    valkey.client().delete("mw:alerts:remembered")
    port = connection.settings_dict["PORT"]
    connection.close()
    connection.settings_dict["PORT"] = "1"
    try:
        assert "postgres-down" in Watch().look()
    finally:
        connection.settings_dict["PORT"] = port
        connection.close()
    for _ in range(2):
        Watch().look()
    alert = Alert.objects.get(code="postgres-down")
    assert alert.closed_at is not None
    assert codes() == set()


def test_silent_name_servers_pause_the_claims(settings: Any, dns_server: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        name = f"127.0.0.1:{silent.getsockname()[1]}"
        settings.DNS_RESOLVERS = [name]
        assert silent_resolvers([name], seconds=0.2) == [name]
        assert Watch().look() == ["dns-down"]
        time.sleep(1.1)
        assert pauses.claims_paused_by() == "dns"
        settings.DNS_RESOLVERS = [name, dns_server]
        assert Watch().look() == ["dns-down"]
        assert open_alerts()[0].severity == "warning"
    settings.DNS_RESOLVERS = [dns_server]
    assert Watch().look() == []
    time.sleep(1.1)
    assert pauses.claims_paused_by() == ""
    assert codes() == set()


def test_a_wrong_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    monkeypatch.setattr("deliverability.alerts.health.time.time", lambda: real() + 300)
    assert Watch().look() == ["clock-wrong"]
    assert "300 s ahead of" in open_alerts()[0].title
    monkeypatch.undo()
    assert Watch().look() == []
    assert codes() == set()
