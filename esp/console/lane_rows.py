"""What operators see of lanes: rows of the table, and all of one lane."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db.models import Q
from django.utils import timezone

from deliverability.ips import caps
from deliverability.ips.models import IpAddress
from esp.console.queue_facts import LaneDepth, kept_facts
from esp.lib.ids import to_public
from sending.engine.ports import Lane
from sending.lanes.live import LiveLane, live_lanes
from sending.lanes.models import LaneState, LimitOverride
from sending.lanes.selectors import (
    lanes_by_use,
    limits_of,
    state_of,
    title_of,
)
from sending.lanes.shaping import shaping_in_force
from sending.lanes.types import Quota
from tenants.directory.models import Tenant

_MOST = 100
STATES: Final = {
    "running": ("success", "Running"),
    "slowed": ("info", "Slowed"),
    "suspended": ("error", "Suspended"),
    "paused": ("warning", "Paused"),
}


# Why messages of a lane wait, by `LaneWait.why`; the words of one of them stand beside.
WAIT_TITLES: Final = {
    "leased": "Being handed over right now",
    "lease-ended": "Their worker stopped; another takes them over",
    "due": "Due, and waiting for their turn",
    "stopped": "Due, but their campaign, their workspace or the lane must not send",
    "reply": "Told to come back later",
    "unreachable": "Not reached",
    "connections": "All connections are busy",
    "rate": "The rate’s limit",
    "cap": "Today’s cap",
    "suspended": "The lane is suspended",
    "paused": "The lane is paused",
    "route": "The route rests",
    "node": "No host can send them",
    "passed-on": "Passed on to another host",
    "global-rate": "The limit for everything that leaves",
    "tenant-rate": "The limit of a tenant",
    "batch-rate": "The limit of a campaign",
    "domain-rate": "The limit of a domain",
}


@dataclass(frozen=True)
class WaitRow:
    """Messages of a lane that wait for one reason."""

    title: str
    count: int
    next_at: dt.datetime | None
    otherwise: str  # what to say in place of `next_at`
    example: str


@dataclass(frozen=True)
class LaneRow:
    """One lane as the table shows it. `cap` is today's, by warm-up and by limit."""

    lane: LaneState
    source: str
    title: str
    state: str
    until: dt.datetime | None
    reason: str
    limits: Quota
    live: LiveLane
    sent_day: int
    cap: int | None
    depth: int | None  # None: nobody has counted lately
    oldest_seconds: float
    waits: list[WaitRow]

    @property
    def label(self) -> str:
        """The state in a word."""
        return STATES[self.state][1]

    @property
    def kind(self) -> str:
        """The colour of the state."""
        return STATES[self.state][0]


# The states of the queue in the order in which a message goes through them: titles and what else
# there is to say.
_QUEUE: Final = {
    "all": ("Waiting (estimated)", ""),
    "due": ("Due now", ""),
    "leased": ("Being handed over", ""),
    "held": ("Held by limits", ""),
    "stopped": ("Stopped", "paused, held, suspended or cancelled"),
    "deferred": ("Told to wait", ""),
    "scheduled": ("Scheduled", ""),
}


@dataclass(frozen=True)
class QueueView:
    """How the whole queue stands, as counted at `at`."""

    at: dt.datetime
    parts: list[tuple[str, int, str]]  # title, messages, what else there is to say
    total: int
    oldest_seconds: float


def queue_view() -> QueueView | None:
    """Return how the queue stands, None where nobody has counted lately."""
    facts = kept_facts()
    if facts is None:
        return None
    parts = [
        (title, facts.by_state[key], more)
        for key, (title, more) in _QUEUE.items()
        if key in facts.by_state
    ]
    return QueueView(facts.at, parts, sum(facts.by_state.values()), facts.oldest_seconds)


def lane_rows(*, search: str = "", state: str = "") -> list[LaneRow]:
    """Return up to 100 lanes: by use, or those that match; shut ones come first."""
    now = timezone.now()
    rows = lanes_by_use()
    if search:
        known = [
            site.id
            for site in shaping_in_force().sites.values()
            if search.lower() in site.title.lower()
        ]
        sources = [
            str(pk)
            for pk in IpAddress.objects.filter(address__startswith=search).values_list(
                "pk", flat=True
            )
        ]
        rows = rows.filter(Q(site__icontains=search) | Q(site__in=known) | Q(source_id__in=sources))
    shut = Q(is_paused=True) | Q(suspended_until__gt=now)
    if state == "running":
        rows = rows.exclude(shut)
    elif state in ("paused", "suspended"):
        wanted = Q(is_paused=True) if state == "paused" else Q(suspended_until__gt=now)
        rows = rows.filter(wanted)
    first = list(rows.filter(shut)[:_MOST])
    found = [*first, *rows.exclude(pk__in=[row.pk for row in first])[: _MOST - len(first)]]
    return rows_of(found, now)


def rows_of(lanes: Sequence[LaneState], now: dt.datetime) -> list[LaneRow]:
    """Return the rows of `lanes` in their order."""
    names = {str(pk): text for pk, text in IpAddress.objects.values_list("id", "address")}
    facts = kept_facts()
    empty = LaneDepth("", "", "", 0, 0.0) if facts is not None else None
    depths = {(x.source_id, x.site): x for x in facts.lanes} if facts is not None else {}
    live = live_lanes([Lane(row.source_id, row.site) for row in lanes])
    today = now.astimezone(dt.UTC).date()
    table = caps.snapshot()
    found = []
    for row in lanes:
        limits = limits_of(row.source_id, row.site)
        cap = table.cap_for(row.source_id, row.site, today)
        found.append(
            _row(
                row,
                names.get(row.source_id, "unbound" if not row.source_id else row.source_id[:8]),
                live.get(Lane(row.source_id, row.site), LiveLane()),
                (limits, min((x for x in (cap, limits.per_day) if x is not None), default=None)),
                depths.get((row.source_id, row.site), empty),
                now=now,
            )
        )
    return found


def _row(
    row: LaneState,
    source: str,
    live: LiveLane,
    bounds: tuple[Quota, int | None],
    depth: LaneDepth | None,
    *,
    now: dt.datetime,
) -> LaneRow:
    state = state_of(row, now)
    until, reason = None, ""
    if state == "paused":
        reason = row.paused_reason
    elif state == "suspended":
        until, reason = row.suspended_until, row.suspended_reason
    elif slowed := max(live.slowed_until, live.one_until):
        state, until = "slowed", dt.datetime.fromtimestamp(slowed, tz=dt.UTC)
        rule = shaping_in_force().rules_by_id.get(live.rule)
        reason = rule.title if rule is not None else ""
    return LaneRow(
        lane=row,
        source=source,
        title=title_of(row.site),
        state=state,
        until=until,
        reason=reason,
        limits=bounds[0],
        live=live,
        sent_day=row.sent_day if row.day == now.astimezone(dt.UTC).date() else 0,
        cap=bounds[1],
        depth=depth.depth if depth is not None else None,
        oldest_seconds=depth.oldest_seconds if depth is not None else 0.0,
        waits=_waits(depth) if depth is not None else [],
    )


def _waits(depth: LaneDepth) -> list[WaitRow]:
    return [
        WaitRow(
            WAIT_TITLES.get(one.why, one.why),
            one.count,
            dt.datetime.fromisoformat(one.next_at) if one.next_at else None,
            "not before that ends" if one.why == "stopped" else "under way",
            one.example,
        )
        for one in depth.waits
    ]


def limits_table(rows: Sequence[LimitOverride]) -> list[dict[str, Any]]:
    """Return the limits that were set, each with the name of what it is for."""
    names = {str(pk): text for pk, text in IpAddress.objects.values_list("id", "address")}
    tenants = {
        str(pk): name
        for pk, name in Tenant.objects.filter(
            pk__in=[row.key for row in rows if row.scope == "tenant"]
        ).values_list("id", "name")
    }
    found = []
    for row in rows:
        target = row.key
        if row.scope == "lane":
            source, _, site = row.key.partition("|")
            target = f"{names.get(source, source or 'unbound')} to {title_of(site)}"
        elif row.scope == "site":
            target = title_of(row.key)
        elif row.scope == "global":
            target = "Everything"
        elif row.scope == "tenant":
            target = tenants.get(row.key, row.key)
        elif row.scope == "batch":
            target = to_public("bat", uuid.UUID(row.key))
        found.append({"row": row, "target": target})
    return found
