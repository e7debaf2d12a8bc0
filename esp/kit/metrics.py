"""Counters and histograms of many processes, kept in Valkey, read by Prometheus.

A process counts in memory and adds its counts to one hash in Valkey every second or so; a web
process reads the hash when it is scraped. Losing Valkey loses the counts, never a message: for
Prometheus the counters begin anew, which `rate()` takes for a restart.
"""

from __future__ import annotations

import bisect
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import redis
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

log = logging.getLogger(__name__)

HASH = "mw:metrics"
_FLUSH_SECONDS = 1.0
_AFTER_FAILURE_SECONDS = 15.0
_SEPARATOR = "\x1f"


@dataclass(frozen=True, slots=True)
class Definition:
    """A metric: its name without `_total`, what it says, its labels; buckets in seconds."""

    name: str
    kind: Literal["counter", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


class Tally:
    """What one process has counted since it last told Valkey. Not for several threads at once."""

    def __init__(self, definitions: Sequence[Definition]) -> None:
        self._known = {definition.name: definition for definition in definitions}
        self._counts: dict[str, float] = {}
        self._flush_at = 0.0

    def count(self, name: str, labels: tuple[str, ...], amount: float = 1) -> None:
        """Add `amount` to a counter."""
        key = _SEPARATOR.join((name, *labels))
        self._counts[key] = self._counts.get(key, 0) + amount

    def observe(self, name: str, labels: tuple[str, ...], seconds: Sequence[float]) -> None:
        """Add observations to a histogram."""
        buckets = self._known[name].buckets
        places = Counter([bisect.bisect_left(buckets, value) for value in seconds])
        for place, times in places.items():
            self.count(name, (*labels, str(place)), times)
        self.count(name, (*labels, "sum"), sum(seconds))

    def flush(self, client: redis.Redis, *, force: bool = False) -> None:
        """Add the counts to those in Valkey, once a second; they are kept while it is away."""
        now = time.monotonic()
        if not self._counts or (now < self._flush_at and not force):
            return
        pipeline = client.pipeline(transaction=False)
        for key, amount in self._counts.items():
            pipeline.hincrbyfloat(HASH, key, amount)
        try:
            pipeline.execute()
        except redis.RedisError as error:
            log.warning("metrics wait until Valkey is back: %s", error)
            self._flush_at = now + _AFTER_FAILURE_SECONDS
            return
        self._counts = {}
        self._flush_at = now + _FLUSH_SECONDS


def families(definitions: Sequence[Definition], stored: Mapping[Any, Any]) -> Iterator[Metric]:
    """Yield Prometheus' form of what Valkey holds; entries of unknown metrics are passed over."""
    rows: dict[str, dict[tuple[str, ...], float]] = {}
    for key, value in stored.items():
        name, *labels = key.decode("utf-8", "replace").split(_SEPARATOR)
        rows.setdefault(name, {})[tuple(labels)] = float(value)
    for definition in definitions:
        found = rows.get(definition.name, {})
        if definition.kind == "counter":
            yield _counter(definition, found)
        else:
            yield _histogram(definition, found)


def _counter(definition: Definition, found: Mapping[tuple[str, ...], float]) -> Metric:
    family = CounterMetricFamily(definition.name, definition.help, labels=definition.labels)
    for labels, value in sorted(found.items()):
        if len(labels) == len(definition.labels):
            family.add_metric(labels, value)
    return family


def _histogram(definition: Definition, found: Mapping[tuple[str, ...], float]) -> Metric:
    family = HistogramMetricFamily(definition.name, definition.help, labels=definition.labels)
    groups: dict[tuple[str, ...], dict[str, float]] = {}
    for labels, value in found.items():
        if len(labels) == len(definition.labels) + 1:
            groups.setdefault(labels[:-1], {})[labels[-1]] = value
    for labels, parts in sorted(groups.items()):
        running, buckets = 0.0, []
        for place, bound in enumerate([*map(str, definition.buckets), "+Inf"]):
            running += parts.get(str(place), 0.0)
            buckets.append((bound, running))
        family.add_metric(labels, buckets, sum_value=parts.get("sum", 0.0))
    return family


def gauge(
    name: str, text: str, labels: Sequence[str], rows: Mapping[tuple[str, ...], float]
) -> Metric:
    """Return a gauge with one value for each set of labels."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in sorted(rows.items()):
        family.add_metric(key, value)
    return family
