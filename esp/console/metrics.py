"""The page that Prometheus reads: counts of the workers, and how the queue and lanes stand now."""

from __future__ import annotations

import datetime as dt
import hmac
import logging
from collections.abc import Iterator, Sequence

import redis
from django.conf import settings
from django.db import DatabaseError, connections, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_GET
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from deliverability.alerts.models import Alert
from esp.console.queue_facts import LaneGauge, QueueFacts, kept_facts
from esp.kit.metrics import HASH, families, gauge
from esp.kit.valkey import client
from sending.dispatch.metrics import DEFINITIONS

log = logging.getLogger(__name__)


class _Everything(Collector):
    """Asks Valkey and PostgreSQL once a scrape; what is away is reported as down."""

    def collect(self) -> Iterator[Metric]:
        try:
            stored = client().hgetall(HASH)
        except redis.RedisError as error:
            log.warning("metrics without Valkey: %s", error)
            stored = None
        yield gauge(
            "mailwright_up",
            "Whether a part answers.",
            ("part",),
            {("valkey",): float(stored is not None), ("postgresql",): float(_database_answers())},
        )
        yield from families(DEFINITIONS, stored or {})
        try:
            with transaction.atomic():
                yield from list(_from_database())
        except DatabaseError as error:
            log.warning("metrics without PostgreSQL: %s", error)


def _database_answers() -> bool:
    try:
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return False
    return True


def _from_database() -> Iterator[Metric]:
    open_alerts: dict[tuple[str, ...], float] = {}
    for code, severity in Alert.objects.filter(closed_at=None).values_list("code", "severity"):
        open_alerts[code, severity] = open_alerts.get((code, severity), 0) + 1
    yield gauge(
        "mailwright_alerts_open", "Open operators' alerts.", ("code", "severity"), open_alerts
    )
    facts = kept_facts()
    if facts is not None:
        yield from _queue(facts)


def _queue(facts: QueueFacts) -> Iterator[Metric]:
    yield gauge(
        "mailwright_queue_messages",
        "Messages that wait; estimated where they are many.",
        ("state",),
        {(state,): float(count) for state, count in facts.by_state.items()},
    )
    yield gauge(
        "mailwright_queue_oldest_seconds",
        "Age of the longest waiting message.",
        (),
        {(): facts.oldest_seconds},
    )
    yield from _lanes(facts.gauges)
    yield gauge(
        "mailwright_lanes_closed",
        "Lanes that are suspended or paused.",
        ("why",),
        {(why,): float(count) for why, count in facts.closed.items()},
    )
    yield gauge(
        "mailwright_shaping_actions_last_hour",
        "What shaping did in the last hour.",
        ("action",),
        {(action,): float(count) for action, count in facts.actions.items()},
    )
    yield gauge(
        "mailwright_nodes", "Delivery nodes by whether they give signs of life.", ("state",),
        {(state,): float(count) for state, count in facts.nodes.items()},
    )  # fmt: skip
    yield gauge(
        "mailwright_queue_facts_age_seconds", "Age of the figures of the queue.", (),
        {(): max(0.0, (dt.datetime.now(dt.UTC) - facts.at).total_seconds())},
    )  # fmt: skip


def _lanes(rows: Sequence[LaneGauge]) -> Iterator[Metric]:
    """Yield what waits and how connections are used, by source and known provider."""
    for name, text, value in (
        ("waiting", "Messages that were tried or held in a lane.", "depth"),
        ("oldest_seconds", "Age of the oldest message of a lane.", "oldest_seconds"),
        ("connections", "Connections in use by lane.", "connections"),
        ("connections_limit", "Connections that lanes in use may have.", "connections_limit"),
    ):
        values: dict[tuple[str, ...], float] = {
            (row.source, row.site): float(getattr(row, value)) for row in rows
        }
        yield gauge(f"mailwright_lane_{name}", text, ("source", "site"), values)


_registry = CollectorRegistry(auto_describe=False)
_registry.register(_Everything())


@require_GET
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer Prometheus; without METRICS_TOKEN the page does not exist."""
    expected = settings.METRICS_TOKEN
    given = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
    if not expected or not hmac.compare_digest(given.encode(), expected.encode()):
        raise Http404
    return HttpResponse(generate_latest(_registry), content_type=CONTENT_TYPE_LATEST)


metrics.needs = "public"  # type: ignore[attr-defined]
