"""Reads of lanes: what the workers must know, what operators and the affected tenants see."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, fields

from django.db import connection
from django.db.models import Q, QuerySet
from django.utils import timezone

from deliverability.ips.models import IpAddress
from sending.engine.ports import Lane
from sending.engine.shaping.sites import ROUTE_PREFIX
from sending.lanes.models import LaneState, LimitOverride, ShapingAction
from sending.lanes.shaping import shaping_in_force
from sending.lanes.types import Closed, LimitsSnapshot, Quota, Used

_QUOTA_FIELDS = tuple(entry.name for entry in fields(Quota))
# What limits and closures can be in force at once; more would be a mistake, not a wish.
_MOST_CLOSED = 20_000


def quota_of(row: LimitOverride) -> Quota:
    """Return the limits that an operator has set in one row."""
    return Quota(*(getattr(row, name) for name in _QUOTA_FIELDS))


def limits_snapshot(now: dt.datetime | None = None) -> LimitsSnapshot:
    """Return all that workers must know of limits and closed lanes: three small queries."""
    now = now or timezone.now()
    rows = LaneState.objects.filter(Q(is_paused=True) | Q(suspended_until__gt=now))
    limits = list(LimitOverride.objects.all())
    return LimitsSnapshot(
        overrides={(row.scope, row.key): quota_of(row) for row in limits},
        used={(row.scope, row.key): _used(row) for row in limits if row.hour is not None},
        closed={Lane(row.source_id, row.site): closed_of(row) for row in rows[:_MOST_CLOSED]},
        names={str(pk): address for pk, address in IpAddress.objects.values_list("id", "address")},
    )


def _used(row: LimitOverride) -> Used:
    assert row.hour is not None
    same_day = row.hour.astimezone(dt.UTC).date() == row.day
    return Used(row.hour, row.sent_hour, row.sent_day if same_day else 0)


def closed_of(row: LaneState) -> Closed:
    """Return why a lane that is paused or suspended is shut."""
    if row.is_paused:
        return Closed("paused", row.paused_reason)
    return Closed("suspended", row.suspended_reason, row.suspended_rule, row.suspended_until)


def counts_for(lanes: Iterable[Lane]) -> dict[Lane, Used]:
    """Return what lanes have sent, each in the hour and day of its last use."""
    wanted = list(lanes)
    if not wanted:
        return {}
    sql = """
        SELECT source_id, site, hour, sent_hour, day, sent_day, concurrency
        FROM sending_lanestate
        JOIN unnest(%s::text[], %s::text[]) AS wanted (source, name)
            ON source_id = source AND site = name
        WHERE hour IS NOT NULL
    """
    with connection.cursor() as cursor:
        cursor.execute(sql, [[x.source_id for x in wanted], [x.site for x in wanted]])
        rows = cursor.fetchall()
    found = {}
    for source_id, site, hour, sent_hour, day, sent_day, concurrency in rows:
        same_day = hour.astimezone(dt.UTC).date() == day
        found[source_id, site] = Used(hour, sent_hour, sent_day if same_day else 0, concurrency)
    return {x: found[x.source_id, x.site] for x in wanted if (x.source_id, x.site) in found}


@dataclass(frozen=True)
class LaneFacts:
    """What holds a lane, for "why is it waiting?". `state`: running, paused or suspended.

    `limits` are those in force (defaults, and what operators set over them).
    """

    source_address: str
    site_title: str
    state: str
    reason: str
    rule: str
    rule_title: str
    until: dt.datetime | None
    limits: Quota
    sent_hour: int
    sent_day: int
    last_reply: str
    last_action: ShapingAction | None


def lane_facts(source_id: str, site: str, *, now: dt.datetime | None = None) -> LaneFacts:
    """Return what is known of a lane, also of one that was never used."""
    now = now or timezone.now()
    row = LaneState.objects.filter(source_id=source_id, site=site).first()
    row = row or LaneState(source_id=source_id, site=site)
    shaping = shaping_in_force()
    rule = shaping.rules_by_id.get(row.suspended_rule)
    state = state_of(row, now)
    closed = closed_of(row) if state != "running" else None
    used_now = row.hour is not None and row.hour <= now < row.hour + dt.timedelta(hours=1)
    return LaneFacts(
        source_address=address_of(source_id),
        site_title=title_of(site),
        state=state,
        reason=closed.reason if closed else "",
        rule=closed.rule if closed else "",
        rule_title=rule.title if rule is not None and closed and closed.rule else "",
        until=closed.until if closed else None,
        limits=limits_of(source_id, site),
        sent_hour=row.sent_hour if used_now else 0,
        sent_day=row.sent_day if row.day == now.astimezone(dt.UTC).date() else 0,
        last_reply=row.last_reply,
        last_action=actions_in_lane(source_id, site).first(),
    )


def state_of(row: LaneState, now: dt.datetime) -> str:
    """Return "paused", "suspended" or "running"."""
    if row.is_paused:
        return "paused"
    if row.suspended_until is not None and row.suspended_until > now:
        return "suspended"
    return "running"


def title_of(site: str) -> str:
    """Return a site's name for people."""
    if site.startswith(ROUTE_PREFIX):
        return f"Route {site.removeprefix(ROUTE_PREFIX)}"
    return shaping_in_force().site_title(site)


def address_of(source_id: str) -> str:
    """Return a source's IP address, or what stands for it."""
    try:
        key = uuid.UUID(source_id)
    except ValueError:
        return "unbound"
    return IpAddress.objects.filter(pk=key).values_list("address", flat=True).first() or "removed"


def limits_of(source_id: str, site: str) -> Quota:
    """Return the limits in force in a lane."""
    quota = Quota.of(shaping_in_force().limits_for(site))
    keys = Q(scope="site", key=site) | Q(scope="lane", key=f"{source_id}|{site}")
    rows = {row.scope: quota_of(row) for row in LimitOverride.objects.filter(keys)}
    for kind in ("site", "lane"):
        if kind in rows:
            quota = rows[kind].over(quota)
    return quota


def lanes_by_use() -> QuerySet[LaneState]:
    """Return the lanes, those used last first; never-used ones last."""
    return LaneState.objects.order_by("-updated_at")


def limits_set() -> QuerySet[LimitOverride]:
    """Return what operators have set."""
    return LimitOverride.objects.order_by("scope", "key")


def actions_in_lane(source_id: str, site: str) -> QuerySet[ShapingAction]:
    """Return a lane's audit lines, newest first."""
    return ShapingAction.objects.filter(source_id=source_id, site=site).order_by("-id")


def actions_for_tenant(tenant_id: uuid.UUID) -> QuerySet[ShapingAction]:
    """Return the audit lines that a tenant's messages brought about or that were done to it."""
    return ShapingAction.objects.filter(tenant_ref=tenant_id).order_by("-id")
