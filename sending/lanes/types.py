"""Values of lanes: limits with gaps, what closes a lane, what a throttle hands to the database."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal, Protocol

from sending.engine.ports import Lane
from sending.engine.shaping.limits import Limits

ScopeKind = Literal["global", "site", "lane", "domain", "tenant", "batch"]

# What may be limited beside a lane, in the order in which it is asked.
SCOPES: tuple[ScopeKind, ...] = ("global", "tenant", "batch", "domain")


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits of which some are not set; None leaves what stands below it."""

    connections: int | None = None
    messages_per_connection: int | None = None
    connections_per_minute: int | None = None
    per_second: float | None = None
    per_minute: int | None = None
    per_hour: int | None = None
    per_day: int | None = None

    def over(self, below: Quota) -> Quota:
        """Return these limits, and those of `below` where nothing is set."""
        return Quota(
            *(
                getattr(below, entry.name) if mine is None else mine
                for entry in fields(self)
                for mine in (getattr(self, entry.name),)
            )
        )

    @classmethod
    def of(cls, limits: Limits) -> Quota:
        """Return what the shaping file says."""
        return cls(*(getattr(limits, entry.name) for entry in fields(cls)))


@dataclass(frozen=True, slots=True)
class Closed:
    """Why a lane is shut: an operator's pause (no end) or a suspension until `until`."""

    hold: Literal["paused", "suspended"]
    reason: str
    rule: str = ""
    until: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class LimitsSnapshot:
    """What the database says of limits and lanes; loaded every few seconds, then read-only.

    `overrides` by (scope, key) as in `LimitOverride`, `used` what left under those in their last
    hour and day; `names` are source addresses by source id.
    """

    overrides: Mapping[tuple[str, str], Quota] = field(default_factory=dict)
    used: Mapping[tuple[str, str], Used] = field(default_factory=dict)
    closed: Mapping[Lane, Closed] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Used:
    """What has left in the hour and the day (UTC) of `at`; and the connections that a lane bore."""

    at: dt.datetime
    hour: int = 0
    day: int = 0
    concurrency: float = 0.0


@dataclass(slots=True)
class LaneCount:
    """What one process saw of a lane since it told last. `sent` counts tries."""

    lane: Lane
    at: dt.datetime
    hour: dt.datetime
    sent: int = 0
    delivered: int = 0
    deferred: int = 0
    bounced: int = 0
    last_reply: str = ""
    concurrency: float = 0.0


@dataclass(frozen=True, slots=True)
class LimitCount:
    """What one process has sent under a limit of the hour or day since it told last."""

    scope: str
    key: str
    hour: dt.datetime
    sent: int


@dataclass(frozen=True, slots=True)
class Action:
    """One reaction that was carried out: becomes an audit line, a suspension or a hold."""

    at: dt.datetime
    action: str
    rule: str
    title: str
    lane: Lane
    source_address: str
    tenant: str
    batch: str
    message_id: uuid.UUID | None
    reply: str
    until: dt.datetime | None


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something about the throttle that an operator must know, or its end (`is_on` False)."""

    code: str
    is_on: bool
    title: str = ""
    detail: str = ""


class CapFor(Protocol):
    """The day's cap of a lane, from warm-up plans; None is none."""

    def __call__(self, source_id: str, site: str, day: dt.date) -> int | None: ...
