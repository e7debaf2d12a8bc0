"""Shares of a set "by delivery rate and latency": plain arithmetic over a window's totals."""

from __future__ import annotations

from collections.abc import Mapping

from sending.routes.types import Totals

FULL = 1000  # the best route's weight
# Each route keeps a small share, so that one that got well is noticed.
FLOOR = 50


def weights(totals: Mapping[str, Totals]) -> dict[str, int]:
    """Return a weight from FLOOR to FULL for each route, from its totals over the window.

    Score: (delivery rate)² × √(fastest latency / own latency). The square makes a loss weigh more
    than slowness. The rate is Laplace-smoothed, (delivered + 1) / (attempts + 2), so that a single
    attempt decides nothing; the latency has one attempt of the mean of all mixed in, and a route
    without attempts gets that mean.
    """
    if not totals:
        return {}
    attempts = sum(found.attempts for found in totals.values())
    mean = max(sum(found.seconds for found in totals.values()) / max(attempts, 1), 0.001)
    latency = {
        name: max((found.seconds + mean) / (found.attempts + 1), 0.001)
        for name, found in totals.items()
    }
    fastest = min(latency.values())
    scores = {
        name: ((found.delivered + 1) / (found.attempts + 2)) ** 2 * (fastest / latency[name]) ** 0.5
        for name, found in totals.items()
    }
    best = max(scores.values())
    return {name: max(FLOOR, round(FULL * score / best)) for name, score in scores.items()}
