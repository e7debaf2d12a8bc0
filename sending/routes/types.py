"""What the room hands around: results of attempts, health, steps of a test."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from sending.engine.ports import Kind


@dataclass(frozen=True, slots=True)
class RouteResult:
    """What came of one attempt by a route; `route` is "" for direct delivery.

    `is_failure`: the route itself was not to be had (no connection, log-in refused, server in
    trouble), whatever the message was; `error` says how, for operators.
    """

    route: str
    kind: Kind
    at: dt.datetime
    seconds: float = 0.0
    is_failure: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class Totals:
    """A route's attempts over a window; `seconds` is the sum over them."""

    delivered: int = 0
    deferred: int = 0
    bounced: int = 0
    seconds: float = 0.0

    @property
    def attempts(self) -> int:
        """How many were tried."""
        return self.delivered + self.deferred + self.bounced

    @property
    def delivery_rate(self) -> float | None:
        """The part that was delivered, 0 to 1; None without attempts."""
        return self.delivered / self.attempts if self.attempts else None

    @property
    def mean_seconds(self) -> float | None:
        """The mean latency of an attempt in seconds; None without attempts."""
        return self.seconds / self.attempts if self.attempts else None


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a route's test, in words; `is_ok` is None for one that was not reached."""

    title: str
    is_ok: bool | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a check of a route found; `error` is "" when all went well.

    `proves`: that it can send now. A provider without a call that tries the key is only reached.
    """

    steps: tuple[Step, ...]
    error: str = ""
    proves: bool = True

    @property
    def is_ok(self) -> bool:
        """Whether the route can be used."""
        return not self.error
