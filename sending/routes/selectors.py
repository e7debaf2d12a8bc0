"""Reads of routes and sets; above all: by which ways a message may leave."""

from __future__ import annotations

import datetime as dt
import hmac
import logging
import time
import uuid
from collections.abc import Sequence
from typing import Literal, overload

from django.conf import settings
from django.db.models import Count, Prefetch, QuerySet, Sum
from django.urls import reverse
from django.utils import timezone

from esp.lib.ids import from_public
from sending.engine.ports import Source, Way
from sending.routes.building import Unusable, carrier_of, relay_of
from sending.routes.models import (
    DefaultRoute,
    Route,
    RouteRule,
    RouteSet,
    RouteSetMember,
    RouteStat,
    RouteWebhook,
)
from sending.routes.performance import weights
from sending.routes.plans import Member, Plan, Resting, as_ways
from sending.routes.types import Totals
from tenants.scoping.context import scope

log = logging.getLogger(__name__)

ANY = "any"
# What "by delivery rate and latency" looks back on.
WINDOW = dt.timedelta(minutes=15)
# A change by an operator, or a rest, reaches every delivery process within this time.
_KEEP_SECONDS = 15.0
_KEEP_KEYS = 50_000
# By the tenant's number: hashing and comparing UUIDs is Python, for each message.
_choices: dict[tuple[int, str], tuple[float, uuid.UUID | None]] = {}
_plans: dict[uuid.UUID, tuple[float, Plan | None]] = {}
_broken: dict[uuid.UUID, str] = {}


@overload
def ways_for(
    tenant_id: uuid.UUID, stream: str, direct: Sequence[Way | Source], *,
    only: str | None = None, load: Literal[True] = True,
) -> tuple[Way, ...]: ...  # fmt: skip
@overload
def ways_for(
    tenant_id: uuid.UUID, stream: str, direct: Sequence[Way | Source], *,
    only: str | None = None, load: bool,
) -> tuple[Way, ...] | None: ...  # fmt: skip


def ways_for(
    tenant_id: uuid.UUID,
    stream: str,
    direct: Sequence[Way | Source],
    *,
    only: str | None = None,
    load: bool = True,
) -> tuple[Way, ...] | None:
    """Return the ways by which a message of a tenant's stream may leave.

    `direct` are the ways of our own delivery (sources with ranks and weights). The tenant's rule
    for the stream chooses the route set, else its rule for any stream, else the stream's default,
    else the default for any; without one, `direct` is all there is. A set becomes ways by its
    strategy; routes that rest are left out, and where all rest the one way left holds the message
    (phase "throttle", hold "route"), so that no attempt is used up.

    `only` names the route of an earlier attempt that may have delivered ("" for direct): a second
    try stays with it, because only one and the same receiver can tell a copy by its Message-ID.
    When an operator has taken that route out of the set or switched it off, all ways are open.

    Empty when `direct` is and no other route is there. Kept for 15 seconds in the process; with
    `load=False` only what is kept is used, else None (event loops must not ask the database).
    """
    kept, chosen = _kept_choice((tenant_id.int, stream))
    plan: Plan | None = None
    if kept and chosen is not None:
        kept, plan = _kept_plan(chosen)
    if not kept:
        if not load:
            return None
        plan = _load(tenant_id, stream)
    if plan is None:
        return as_ways(direct)
    return plan.ways(as_ways(direct), only=only, now=dt.datetime.now(dt.UTC))


def _kept_choice(key: tuple[int, str]) -> tuple[bool, uuid.UUID | None]:
    found = _choices.get(key)
    is_fresh = found is not None and time.monotonic() < found[0]
    return is_fresh, found[1] if found is not None else None


def _kept_plan(set_id: uuid.UUID) -> tuple[bool, Plan | None]:
    found = _plans.get(set_id)
    is_fresh = found is not None and time.monotonic() < found[0]
    return is_fresh, found[1] if found is not None else None


def forget_routes() -> None:
    """Drop what this process has kept."""
    _choices.clear()
    _plans.clear()


def _load(tenant_id: uuid.UUID, stream: str) -> Plan | None:
    until = time.monotonic() + _KEEP_SECONDS
    chosen = set_for(tenant_id, stream)
    if len(_choices) >= _KEEP_KEYS:
        _choices.clear()
    _choices[tenant_id.int, stream] = (until, chosen)
    if chosen is None:
        return None
    kept, plan = _kept_plan(chosen)
    if not kept:
        plan = _plan_of(chosen)
        _plans[chosen] = (until, plan)
    return plan


def set_for(tenant_id: uuid.UUID, stream: str) -> uuid.UUID | None:
    """Return the id of the route set that a tenant's stream uses; None is direct delivery."""
    with scope(tenant_id):
        rules = dict(
            RouteRule.objects.filter(stream__in=[stream, ANY]).values_list("stream", "route_set_id")
        )
    defaults = dict(
        DefaultRoute.objects.filter(stream__in=[stream, ANY]).values_list("stream", "route_set_id")
    )
    return rules.get(stream) or rules.get(ANY) or defaults.get(stream) or defaults.get(ANY)


def _plan_of(set_id: uuid.UUID) -> Plan | None:
    """Return a set as it stands; None, for direct delivery, when it has gone meanwhile."""
    found = RouteSet.objects.filter(pk=set_id).first()
    if found is None:
        return None
    rows = list(
        RouteSetMember.objects.filter(route_set=found, route__status=Route.Status.ACTIVE)
        .select_related("route")
        .order_by("position", "id")
    )
    shares = {str(row.route_id): row.weight for row in rows}
    if found.strategy == RouteSet.Strategy.PERFORMANCE:
        totals = totals_since(timezone.now() - WINDOW)
        shares = weights({key: totals.get(uuid.UUID(key), Totals()) for key in shares})
    members = [_member(row.route, shares[str(row.route_id)]) for row in rows]
    if not members:
        # Mail that was to leave by a route must not leave directly: it waits, with the reason.
        members.append(_unusable(found.name, "all routes of the set are switched off"))
    before = _plans.get(set_id)
    plan = Plan(found.strategy, tuple(members))
    if before is not None and before[1] is not None:
        plan = Plan(found.strategy, tuple(members), before[1].turns)
    return plan


def _member(route: Route, weight: int) -> Member:
    """Return a route as a member of a set; an unusable one, with a line in the log, rests."""
    try:
        relay = relay_of(route) if route.kind == Route.Kind.SMARTHOST else None
        carrier = carrier_of(route) if route.kind == Route.Kind.HTTP else None
    except Unusable as error:
        if _broken.get(route.pk) != str(error):
            log.error("the route %s cannot be used: %s", route.name, error)
            _broken[route.pk] = str(error)
        return _unusable(route.name, str(error))
    _broken.pop(route.pk, None)
    return Member(
        route.name,
        relay=relay,
        carrier=carrier,
        weight=weight,
        is_bound=bool(route.options.get("bind_source")),
        ehlo_name=f"mail.{settings.PRODUCT_DOMAIN}",
        rests_until=route.rests_until,
        last_error=route.last_error,
    )


def _unusable(name: str, reason: str) -> Member:
    until = timezone.now() + dt.timedelta(seconds=60)
    stand_in = Resting(name, until, reason)
    return Member(name, carrier=stand_in, rests_until=until, last_error=reason)


def totals_since(since: dt.datetime) -> dict[uuid.UUID, Totals]:
    """Return what each route did since a time."""
    rows = (
        RouteStat.objects.filter(minute__gte=since)
        .values("route_id")
        .annotate(
            ok=Sum("delivered"), later=Sum("deferred"), no=Sum("bounced"), spent=Sum("seconds")
        )
    )
    return {row["route_id"]: Totals(row["ok"], row["later"], row["no"], row["spent"])
            for row in rows}  # fmt: skip


def routes_with_sets() -> QuerySet[Route]:
    """Return all routes by name, each with the sets that it is in."""
    members = RouteSetMember.objects.select_related("route_set").order_by("route_set__name")
    return Route.objects.prefetch_related(Prefetch("memberships", members)).order_by("name")


def sets_with_members() -> QuerySet[RouteSet]:
    """Return all sets by name, each with its members in their order and its streams."""
    members = RouteSetMember.objects.select_related("route").order_by("position", "id")
    return (
        RouteSet.objects.annotate(size=Count("members"))
        .prefetch_related(Prefetch("members", members), "defaults")
        .order_by("name")
    )


def defaults_by_stream() -> dict[str, RouteSet]:
    """Return the set of each stream that has a default."""
    rows = DefaultRoute.objects.select_related("route_set")
    return {row.stream: row.route_set for row in rows}


def route_rules_of(tenant_id: uuid.UUID) -> list[RouteRule]:
    """Return a tenant's rules with their sets."""
    with scope(tenant_id):
        return list(RouteRule.objects.select_related("route_set").order_by("stream"))


def webhook_of(route: Route) -> RouteWebhook | None:
    """Return a route's webhook, or None while it has no address."""
    return RouteWebhook.objects.filter(route=route).select_related("route").first()


def webhook_at(route_id: str, token: str) -> RouteWebhook | None:
    """Return the webhook whose address has this id and token, or None."""
    try:
        key = from_public("rte", route_id)
    except ValueError:
        return None
    found = RouteWebhook.objects.filter(pk=key).select_related("route").first()
    if found is None or not hmac.compare_digest(found.token.encode(), token.encode()):
        return None
    return found


def webhook_url(hook: RouteWebhook) -> str:
    """Return the address to paste at the provider; whoever knows it may report."""
    path = reverse("route-reports", args=[hook.route.public_id, hook.token])
    return f"{settings.SITE_URL.rstrip('/')}{path}"
