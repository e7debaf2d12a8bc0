"""What Prometheus reads, and that the dashboard and the alert rules ask for what is there."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.test import Client
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
from sending.lanes.models import LaneState, ShapingAction
from sending.messages.models import QueueEntry
from tests.cast import Cast

ROOT = Path(__file__).parents[3]
TOKEN = "a-token-for-prometheus"
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def fresh(settings: Any) -> None:
    settings.METRICS_TOKEN = TOKEN
    valkey().delete(HASH, "mw:queue-facts:2")


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


def asked_for(text: str) -> set[str]:
    return set(re.findall(r"\bmailwright_[a-z_]+", text))


def test_the_dashboard_and_the_rules_ask_for_what_is_there(visitor: Client, cast: Cast) -> None:
    fill(cast)
    there = names_in(scrape(visitor))
    board = json.loads((ROOT / "deploy/grafana/mailwright.json").read_text())
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(expressions) > 15
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    assert all(rule["annotations"]["description"] for rule in groups[0]["rules"])
    rules = " ".join(rule["expr"] for rule in groups[0]["rules"])
    assert asked_for(" ".join(expressions)) | asked_for(rules) <= there


def test_every_metric_has_a_help_text() -> None:
    assert all(definition.help.endswith(".") for definition in DEFINITIONS)
