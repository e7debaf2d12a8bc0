"""Counts of many processes, kept in Valkey."""

from __future__ import annotations

import pytest
import redis
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from esp.kit.metrics import HASH, Definition, Tally, families
from esp.kit.valkey import client

DEFINITIONS = (
    Definition("test_mail", "counter", "Mail.", ("kind",)),
    Definition("test_seconds", "histogram", "Time.", ("phase",), (0.1, 1.0)),
)


@pytest.fixture(autouse=True)
def empty() -> None:
    client().delete(HASH)


def shown() -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    class Everything(Collector):
        def collect(self) -> list[Metric]:
            return list(families(DEFINITIONS, client().hgetall(HASH)))

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Everything())
    text = generate_latest(registry).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(name: str, **labels: str) -> float:
    return shown()[name, frozenset(labels.items())]


def test_counts_of_two_processes_add_up() -> None:
    for amount in (2, 3):
        tally = Tally(DEFINITIONS)
        tally.count("test_mail", ("delivered",), amount)
        tally.flush(client())
    assert value("test_mail_total", kind="delivered") == 5


def test_a_histogram_has_running_buckets_a_count_and_a_sum() -> None:
    tally = Tally(DEFINITIONS)
    tally.observe("test_seconds", ("rcpt",), (0.05, 0.1, 0.5))
    tally.observe("test_seconds", ("rcpt",), (9.0,))
    tally.flush(client())
    assert value("test_seconds_bucket", phase="rcpt", le="0.1") == 2
    assert value("test_seconds_bucket", phase="rcpt", le="1.0") == 3
    assert value("test_seconds_bucket", phase="rcpt", le="+Inf") == 4
    assert value("test_seconds_count", phase="rcpt") == 4
    assert value("test_seconds_sum", phase="rcpt") == pytest.approx(9.65)


def test_it_tells_valkey_at_most_once_a_second() -> None:
    tally = Tally(DEFINITIONS)
    tally.count("test_mail", ("a",))
    tally.flush(client())
    tally.count("test_mail", ("a",))
    tally.flush(client())
    assert value("test_mail_total", kind="a") == 1
    tally.flush(client(), force=True)
    assert value("test_mail_total", kind="a") == 2


def test_counts_wait_for_a_valkey_that_is_away() -> None:
    away = redis.Redis(host="127.0.0.1", port=1, socket_connect_timeout=0.2)
    tally = Tally(DEFINITIONS)
    tally.count("test_mail", ("a",))
    tally.flush(away)
    tally.flush(client(), force=True)
    assert value("test_mail_total", kind="a") == 1


def test_entries_that_nobody_knows_any_more_are_passed_over() -> None:
    client().hset(HASH, "old_metric\x1fx", "1")
    client().hset(HASH, "test_mail\x1ftoo\x1fmany", "1")
    assert shown() == {}
