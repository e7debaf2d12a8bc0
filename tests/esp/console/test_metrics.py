"""What Prometheus reads, and that the dashboard and the alert rules ask for what is there."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from deliverability.alerts.models import Alert
from deliverability.ips.models import DeliveryNode
from esp.console.queue_facts import count_facts, keep_facts, kept_facts
from esp.kit.metrics import HASH
from esp.kit.valkey import client as valkey
from esp.lib.ids import new_id
from sending.dispatch.metrics import DEFINITIONS, DeliveryMetrics
from sending.engine.ports import Lane, Outcome
from sending.lanes.grants import meter_key
from sending.lanes.models import LaneState, LimitOverride, ShapingAction
from sending.messages import lane_waiting
from sending.messages.models import QueueEntry
from tests.cast import Cast

ROOT = Path(__file__).parents[3]
TOKEN = "a-token-for-prometheus"
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def fresh(settings: Any) -> None:
    settings.METRICS_TOKEN = TOKEN
    valkey().delete(HASH, "mw:queue-facts:3")


def scrape(visitor: Client, token: str = TOKEN) -> str:
    answer = visitor.get("/metrics", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    return answer.content.decode()


def names_in(text: str) -> set[str]:
    families = text_string_to_metric_families(text)
    return {sample.name for family in families for sample in family.samples}


def outcome(**changes: object) -> Outcome:
    fields: dict[str, object] = {
        "kind": "deferred",
        "phase": "rcpt",
        "classification": "soft/throttled",
        "text": "421 busy",
        "at": timezone.now(),
        "lane": Lane("ip1", "google"),
        "timings": {"connect": 0.02, "rcpt": 0.3},
        "is_ambiguous": True,
    }
    return Outcome(**(fields | changes))  # type: ignore[arg-type]


def fill(cast: Cast) -> None:
    """One of everything that is measured."""
    metrics = DeliveryMetrics()
    metrics.note("broadcast", [outcome(), outcome(phase="throttle", hold="rate")])
    metrics.flush(valkey(), force=True)
    now = timezone.now()
    Alert.objects.create(code="x", severity="critical", title="x", opened_at=now, seen_at=now)
    ShapingAction.objects.create(at=now, action="suspend")
    DeliveryNode.objects.create(name="a", seen_at=now)
    LaneState.objects.create(source_id="ip1", site="google", is_paused=True)
    QueueEntry.objects.create(
        message_id=new_id(), tenant_id=cast.acme.pk, batch_id=new_id(), domain="gmail.example",
        due_at=now - dt.timedelta(seconds=5), expires_at=now, site="google", source_id="ip1",
    )  # fmt: skip
    keep_facts(count_facts())


@pytest.mark.parametrize("token", ["", "wrong", "ä"])
def test_without_the_token_there_is_no_page(visitor: Client, token: str) -> None:
    header = {"HTTP_AUTHORIZATION": f"Bearer {token}".encode().decode("latin-1")}
    assert visitor.get("/metrics", **header).status_code == 404  # type: ignore[arg-type]


def test_without_a_configured_token_nobody_reads(visitor: Client, settings: Any) -> None:
    settings.METRICS_TOKEN = ""
    assert visitor.get("/metrics", headers={"Authorization": "Bearer "}).status_code == 404


def test_it_shows_what_the_workers_counted(visitor: Client, cast: Cast) -> None:
    fill(cast)
    text = scrape(visitor)
    assert 'mailwright_attempts_total{outcome="deferred",stream="broadcast"} 1.0' in text
    assert 'mailwright_replies_total{class="soft/throttled",site="google"} 1.0' in text
    assert 'mailwright_held_total{hold="rate"} 1.0' in text
    assert 'mailwright_phase_seconds_bucket{le="0.5",phase="rcpt"} 1.0' in text
    assert 'mailwright_up{part="valkey"} 1.0' in text
    assert 'mailwright_queue_messages{state="due"} 1.0' in text
    assert 'mailwright_lane_waiting{site="google",source="ip1"} 1.0' in text
    assert 'mailwright_lanes_closed{why="paused"} 1.0' in text


def test_strangers_domains_make_no_series(visitor: Client) -> None:
    metrics = DeliveryMetrics()
    metrics.note("broadcast", [outcome(lane=Lane("ip1", f"mx{n}.x.test")) for n in range(9)])
    metrics.flush(valkey(), force=True)
    text = scrape(visitor)
    assert 'site="other"} 9.0' in text
    assert "x.test" not in text


def test_figures_survive_the_way_through_valkey(cast: Cast) -> None:
    fill(cast)
    assert kept_facts() == count_facts(now=kept_facts().at)  # type: ignore[union-attr]


_METRIC = re.compile(r"\b(mailwright_[a-z_]+)(?:\{([^}]*)\})?")


def asked_for(expression: str) -> dict[str, set[str]]:
    """Return the metrics of an expression, each with the labels that it is filtered by."""
    found: dict[str, set[str]] = {}
    for name, filters in _METRIC.findall(expression):
        found.setdefault(name, set()).update(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", filters))
    return found


def labels_of(expression: str) -> set[str]:
    """Return the labels that an expression groups by."""
    groups = re.findall(r"\bby\s*\(([^)]*)\)", expression)
    return {label.strip() for group in groups for label in group.split(",")}


def kept_labels(expression: str, labels: dict[str, set[str]]) -> set[str]:
    """Return the labels that the expression's result has."""
    if labels_of(expression):
        return labels_of(expression)
    if re.search(r"\b(sum|max|absent)\(", expression):
        return set()
    return set().union(*(labels[name] for name in asked_for(expression)))


def expressions() -> list[tuple[str, str]]:
    """Return what the dashboard and the rules ask, each with the words that name its labels."""
    board = json.loads((ROOT / "deploy/grafana/mailwright.json").read_text())
    found = [
        (target["expr"], " ".join(re.findall(r"{{\s*(\w+)\s*}}", target.get("legendFormat", ""))))
        for panel in board["panels"]
        for target in panel["targets"]
    ]
    assert len(found) > 15
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    for rule in groups[0]["rules"]:
        assert rule["annotations"]["description"]
        assert rule["labels"]["severity"] in ("critical", "warning")
        words = " ".join(rule["annotations"].values())
        found.append((rule["expr"], " ".join(re.findall(r"\$labels\.(\w+)", words))))
    return found


def test_the_dashboard_and_the_rules_ask_for_what_is_there(visitor: Client, cast: Cast) -> None:
    fill(cast)
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(scrape(visitor)):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    for expression, named in expressions():
        wanted = asked_for(expression)
        assert wanted, expression
        assert set(wanted) <= set(labels), expression
        for name, filters in wanted.items():
            assert filters <= labels[name], expression
        there = set().union(*(labels[name] for name in wanted))
        assert labels_of(expression) <= there, expression
        assert set(named.split()) <= kept_labels(expression, labels), expression
        assert expression.count("(") == expression.count(")")


def test_a_million_domains_of_a_hostile_tenant_make_one_series(
    visitor: Client, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_waiting, "MOST", 20)
    now = timezone.now()
    common = {"tenant_id": cast.acme.pk, "batch_id": new_id(), "due_at": now, "expires_at": now}
    QueueEntry.objects.bulk_create([
        QueueEntry(message_id=new_id(), domain=f"d{n}.test", site=f"mx{n}.d.test", **common)
        for n in range(300)
        for _ in range(2)
    ])  # fmt: skip
    QueueEntry.objects.create(message_id=new_id(), domain="gmail.test", site="google", **common)
    keep_facts(count_facts())
    text = scrape(visitor)
    assert 'mailwright_lane_waiting{site="other",source="any"} 600.0' in text
    assert 'mailwright_lane_waiting{site="google",source="any"} 1.0' in text
    assert "d.test" not in text
    facts = kept_facts()
    assert facts is not None
    assert len(facts.lanes) == 20


def test_a_scrape_costs_the_same_however_much_waits(visitor: Client, cast: Cast) -> None:
    fill(cast)
    few = queries_of_a_scrape(visitor)
    now = timezone.now()
    QueueEntry.objects.bulk_create([
        QueueEntry(message_id=new_id(), tenant_id=cast.acme.pk, batch_id=new_id(), due_at=now,
                   expires_at=now, domain="x.test", site=f"mx{n}.x.test")
        for n in range(2000)
    ])  # fmt: skip
    keep_facts(count_facts())
    assert queries_of_a_scrape(visitor) == few <= 10


def queries_of_a_scrape(visitor: Client) -> int:
    with CaptureQueriesContext(connection) as seen:
        scrape(visitor)
    return len(seen)


def test_it_shows_how_connections_are_used(visitor: Client, cast: Cast) -> None:
    fill(cast)
    LaneState.objects.update(last_used_at=timezone.now())
    LimitOverride.objects.create(scope="lane", key="ip1|google", connections=7)
    key = meter_key("lane:ip1|google")
    ends = timezone.now().timestamp() + 60
    valkey().hset(key, "w:worker-1", f"0|{ends}|0|2.5|3")
    keep_facts(count_facts())
    valkey().delete(key)
    text = scrape(visitor)
    assert 'mailwright_lane_connections{site="google",source="ip1"} 3.0' in text
    assert 'mailwright_lane_connections_limit{site="google",source="ip1"} 7.0' in text


def test_a_node_that_is_being_emptied_is_not_dead(visitor: Client, cast: Cast) -> None:
    past = timezone.now() - dt.timedelta(hours=1)
    DeliveryNode.objects.create(name="b", seen_at=past, is_draining=True)
    DeliveryNode.objects.create(name="c", seen_at=past)
    keep_facts(count_facts())
    text = scrape(visitor)
    assert 'mailwright_nodes{state="draining"} 1.0' in text
    assert 'mailwright_nodes{state="dead"} 1.0' in text


def test_every_metric_has_a_help_text() -> None:
    assert all(definition.help.endswith(".") for definition in DEFINITIONS)
