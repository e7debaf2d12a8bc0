"""How the queue and the lanes stand: counted by a job at intervals, read by pages and metrics.

Counting ten million rows takes seconds, so nobody counts while someone waits for a page.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby

import orjson
import redis
from django.db import connection, transaction
from django.utils import timezone

from deliverability.ips.models import DeliveryNode, IpAddress
from deliverability.ips.nodes import is_alive
from esp.kit.valkey import client
from esp.lib.ids import made_at
from sending.dispatch.metrics import site_label
from sending.engine.ports import Lane
from sending.lanes.live import live_lanes
from sending.lanes.models import LaneState, ShapingAction
from sending.lanes.selectors import limits_snapshot
from sending.lanes.shaping import shaping_in_force
from sending.lanes.types import Quota
from sending.messages.lane_waiting import LanePart, LaneSum, count_lanes
from sending.messages.stopped import IS_STOPPED, Stopped, stopped_mail

_KEY = "mw:queue-facts:3"  # the number rises with what is kept
_KEPT_SECONDS = 300
# Counted exactly up to so many; above, the planner's estimate is good enough for a gauge.
EXACT_UP_TO = 2_000_000
_LANES = 500
# Lanes that have been used this lately may have connections.
_IN_USE = dt.timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class LaneWait:
    """Messages of a lane that wait for one reason, when the first is tried, and one's words."""

    why: str
    count: int
    next_at: str | None  # ISO 8601
    example: str


@dataclass(frozen=True, slots=True)
class LaneDepth:
    """Messages that were tried or held in a lane, the age of the oldest, and why they wait."""

    source_id: str
    source: str  # the address, for people
    site: str
    depth: int
    oldest_seconds: float
    waits: list[LaneWait] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class LaneGauge:
    """A source's lanes to a known site, or with site "other" to all the rest: for metrics.

    `connections` are in use now, `connections_limit` what those lanes together may have.
    """

    source: str
    site: str
    depth: int = 0
    oldest_seconds: float = 0.0
    connections: int = 0
    connections_limit: int = 0


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """One count of everything; `lanes` are the fullest, `gauges` all of them."""

    at: dt.datetime
    by_state: dict[str, int] = field(default_factory=dict)
    oldest_seconds: float = 0.0
    lanes: list[LaneDepth] = field(default_factory=list)
    gauges: list[LaneGauge] = field(default_factory=list)
    closed: dict[str, int] = field(default_factory=dict)
    actions: dict[str, int] = field(default_factory=dict)
    nodes: dict[str, int] = field(default_factory=dict)
    is_estimated: bool = False


_TOTAL = "SELECT reltuples::bigint FROM pg_class WHERE oid = 'sending_queueentry'::regclass"
_STATES = """
SELECT state, count(*) FROM (
    SELECT CASE WHEN worker <> '' AND due_at > %(now)s THEN 'leased'
                WHEN (due_at <= %(now)s OR hold IN ('paused', 'suspended')) AND {is_stopped}
                    THEN 'stopped'
                WHEN due_at <= %(now)s THEN 'due'
                WHEN hold <> '' THEN 'held'
                WHEN attempts > 0 THEN 'deferred' ELSE 'scheduled' END AS state
    FROM sending_queueentry OFFSET 0
) AS entry
GROUP BY state
"""
# By its primary key: the oldest message has the smallest one.
_OLDEST = "SELECT (SELECT message_id FROM sending_queueentry ORDER BY message_id LIMIT 1)::text"


def count_facts(*, now: dt.datetime | None = None) -> QueueFacts:
    """Count the queue and the lanes; some seconds with millions of messages."""
    now = now or timezone.now()
    stopped = stopped_mail(now)
    by_state, is_estimated = _states(now, stopped)
    names = {str(row.pk): row.address for row in IpAddress.objects.all()}
    with connection.cursor() as cursor:
        cursor.execute(_OLDEST)
        (first,) = cursor.fetchone()
    parts, sums = count_lanes(now, stopped=stopped, known=shaping_in_force().sites)
    closed = {
        "suspended": LaneState.objects.filter(suspended_until__gt=now).count(),
        "paused": LaneState.objects.filter(is_paused=True).count(),
    }
    since = now - dt.timedelta(hours=1)
    actions = Counter(ShapingAction.objects.filter(at__gte=since).values_list("action", flat=True))
    nodes = Counter(_node_state(row, now) for row in DeliveryNode.objects.all())
    return QueueFacts(
        at=now,
        by_state=by_state,
        oldest_seconds=_age(first, now),
        lanes=_lanes(parts, names, now),
        gauges=_gauges(sums, names, now),
        closed=closed,
        actions=dict(actions),
        nodes=dict(nodes),
        is_estimated=is_estimated,
    )


def _node_state(node: DeliveryNode, now: dt.datetime) -> str:
    """Return "draining" for a node that an operator empties, which is no reason for an alarm."""
    if node.is_draining:
        return "draining"
    return "alive" if is_alive(node, now) else "dead"


def _states(now: dt.datetime, stopped: Stopped) -> tuple[dict[str, int], bool]:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_TOTAL)
        (estimate,) = cursor.fetchone()
        if estimate > EXACT_UP_TO:
            return {"all": int(estimate)}, True
        cursor.execute(_STATES.format(is_stopped=IS_STOPPED), {"now": now, **stopped.params})
        return dict(cursor.fetchall()), False


def _lanes(
    parts: Iterable[LanePart], names: Mapping[str, str], now: dt.datetime
) -> list[LaneDepth]:
    """Return one entry a lane, the fullest first, of its parts by reason."""
    found: list[LaneDepth] = []
    for (source, site), group in groupby(parts, key=lambda one: (one.source_id, one.site)):
        of_lane = list(group)
        oldest = min(one.accepted_at for one in of_lane)
        waits = [
            LaneWait(
                one.why, one.count, one.next_at.isoformat() if one.next_at else None, one.example
            )
            for one in of_lane
        ]
        age = max(0.0, (now - oldest).total_seconds())
        name = names.get(source, source or "any")
        found.append(LaneDepth(source, name, site, of_lane[0].depth, age, waits))
    return found[:_LANES]


def _gauges(sums: Iterable[LaneSum], names: Mapping[str, str], now: dt.datetime) -> list[LaneGauge]:
    """Return one entry a source and site label: what waits, and how connections are used."""
    found: dict[tuple[str, str], LaneGauge] = {}
    for one in sums:
        key = (names.get(one.source_id, one.source_id or "any"), one.site or "other")
        age = max(0.0, (now - one.accepted_at).total_seconds())
        before = found.get(key, LaneGauge(*key))
        found[key] = replace(
            before, depth=before.depth + one.count, oldest_seconds=max(before.oldest_seconds, age)
        )
    rows = LaneState.objects.filter(last_used_at__gte=now - _IN_USE)
    lanes = [Lane(row.source_id, row.site) for row in rows.order_by("-last_used_at")[:_LANES]]
    overrides = limits_snapshot(now).overrides if lanes else {}
    for lane, live in live_lanes(lanes).items():
        key = (names.get(lane.source_id, lane.source_id or "any"), site_label(lane.site))
        before = found.get(key, LaneGauge(*key))
        limit = _quota_in(overrides, lane).connections or 0
        found[key] = replace(
            before,
            connections=before.connections + live.in_use,
            connections_limit=before.connections_limit + limit,
        )
    return [found[key] for key in sorted(found)]


def _quota_in(overrides: Mapping[tuple[str, str], Quota], lane: Lane) -> Quota:
    """Return the limits in force in a lane, by what one query read for all of them."""
    quota = Quota.of(shaping_in_force().limits_for(lane.site))
    for key in (("site", lane.site), ("lane", f"{lane.source_id}|{lane.site}")):
        if key in overrides:
            quota = overrides[key].over(quota)
    return quota


def _age(message_id: str | None, now: dt.datetime) -> float:
    """Return how long ago a message was accepted: its key says when (UUIDv7)."""
    if message_id is None:
        return 0.0
    return max(0.0, (now - made_at(uuid.UUID(message_id))).total_seconds())


def keep_facts(facts: QueueFacts) -> None:
    """Put the figures where all processes find them; without Valkey they are just not there."""
    try:
        client().set(_KEY, orjson.dumps(asdict(facts)), ex=_KEPT_SECONDS)
    except redis.RedisError:
        return


def kept_facts() -> QueueFacts | None:
    """Return the latest figures, or None when there are none."""
    try:
        stored = client().get(_KEY)
    except redis.RedisError:
        return None
    if stored is None:
        return None
    values = orjson.loads(stored)
    values["at"] = dt.datetime.fromisoformat(values["at"])
    values["lanes"] = [
        LaneDepth(**{**row, "waits": [LaneWait(**one) for one in row["waits"]]})
        for row in values["lanes"]
    ]
    values["gauges"] = [LaneGauge(**row) for row in values["gauges"]]
    return QueueFacts(**values)
