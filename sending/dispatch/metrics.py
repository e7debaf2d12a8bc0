"""What delivery counts for Prometheus: outcomes, replies by class, seconds by phase."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Final

import redis

from esp.kit.metrics import Definition, Tally
from sending.engine.ports import Outcome
from sending.lanes.shaping import shaping_in_force

# From a warm connection on loopback to the patience of the engine's timeouts.
PHASE_BUCKETS: Final = (
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
)  # fmt: skip

DEFINITIONS: Final = (
    Definition(
        "mailwright_attempts", "counter", "Attempts to hand a message over, by what came of them.",
        ("stream", "outcome"),
    ),
    Definition(
        "mailwright_replies", "counter", "Refusals by mailbox provider and class.",
        ("site", "class"),
    ),
    Definition(
        "mailwright_held", "counter", "Messages that a limit of ours sent back to the queue.",
        ("hold",),
    ),
    Definition(
        "mailwright_ambiguous", "counter", "Attempts whose message may have arrived all the same.",
    ),
    Definition(
        "mailwright_phase_seconds", "histogram", "Seconds of an attempt by phase of the session.",
        ("phase",), PHASE_BUCKETS,
    ),
    Definition(
        "mailwright_sessions", "counter", "Attempts by the TLS version of their session.", ("tls",),
    ),
)  # fmt: skip


def site_label(site: str) -> str:
    """Return a label for `site`: known providers by name, all others together.

    Any recipient's domain can be a site, and Prometheus keeps a series for every label.
    """
    return site if site in shaping_in_force().sites else "other"


class DeliveryMetrics:
    """The counts of one worker process."""

    def __init__(self) -> None:
        self._tally = Tally(DEFINITIONS)

    def note(self, stream: str, outcomes: Iterable[Outcome]) -> None:
        """Count `outcomes` of messages of `stream`, all together before the tally hears of them."""
        counts: Counter[tuple[str, ...]] = Counter()
        timings: defaultdict[str, list[float]] = defaultdict(list)
        for outcome in outcomes:
            if outcome.phase == "throttle":
                counts["mailwright_held", outcome.hold or "connections"] += 1
                continue
            counts["mailwright_attempts", stream, outcome.kind] += 1
            counts["mailwright_sessions", outcome.tls_version or "none"] += 1
            if outcome.kind != "delivered":
                site = site_label(outcome.lane.site if outcome.lane is not None else "")
                counts["mailwright_replies", site, outcome.classification] += 1
            if outcome.is_ambiguous:
                counts["mailwright_ambiguous",] += 1
            for phase, seconds in outcome.timings.items():
                timings[phase].append(seconds)
        for (name, *labels), times in counts.items():
            self._tally.count(name, tuple(labels), times)
        for phase, found in timings.items():
            self._tally.observe("mailwright_phase_seconds", (phase,), found)

    def flush(self, client: redis.Redis, *, force: bool = False) -> None:
        """Tell Valkey, once a second."""
        self._tally.flush(client, force=force)
