"""What operators do with route sets, defaults and tenants' rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import IntegrityError, connection, transaction

from esp.lib.errors import Conflict, InvalidInput
from sending.routes.models import DefaultRoute, Route, RouteRule, RouteSet, RouteSetMember
from sending.routes.selectors import ANY, forget_routes
from sending.routes.services.operators import record_change, require_operator
from tenants.accounts.models import User
from tenants.audit.services import record
from tenants.directory.actor import operator_actor
from tenants.directory.models import Tenant
from tenants.scoping.context import scope

STREAMS = {
    "transactional": "Transactional",
    "broadcast": "Broadcast",
    ANY: "Any stream",
}
MAX_WEIGHT = 1000


@dataclass(frozen=True, slots=True)
class Place:
    """A route's place in a set as an operator gives it."""

    route: Route
    weight: int = 1


def save_route_set(
    *,
    operator: User,
    route_set: RouteSet | None,
    name: str,
    strategy: str,
    places: Sequence[Place],
) -> RouteSet:
    """Make a set or change one; `places` are its routes in their order. Raises InvalidInput."""
    require_operator(operator)
    name = " ".join(name.split())
    if not name or len(name) > 60:
        raise InvalidInput("Give the set a name of at most 60 characters.", field="name")
    if strategy not in RouteSet.Strategy.values:
        raise InvalidInput("Choose a strategy from the list.", field="strategy")
    _check_places(strategy, places)
    others = RouteSet.objects.filter(name__iexact=name)
    if (others.exclude(pk=route_set.pk) if route_set is not None else others).exists():
        raise InvalidInput("Another set has this name.", field="name")
    try:
        with transaction.atomic():
            if route_set is None:
                route_set = RouteSet.objects.create(name=name, strategy=strategy)
                action = "routes.create_set"
            else:
                RouteSet.objects.filter(pk=route_set.pk).update(name=name, strategy=strategy)
                RouteSetMember.objects.filter(route_set=route_set).delete()
                route_set.name, route_set.strategy = name, strategy
                action = "routes.update_set"
            RouteSetMember.objects.bulk_create(
                RouteSetMember(
                    route_set=route_set, route=place.route, position=number, weight=place.weight
                )
                for number, place in enumerate(places)
            )
    except IntegrityError as error:
        raise InvalidInput("Another set has this name.", field="name") from error
    routes = [[place.route.name, place.weight] for place in places]
    record_change(operator, action, name, strategy=strategy, routes=routes)
    return route_set


def _check_places(strategy: str, places: Sequence[Place]) -> None:
    if not places:
        raise InvalidInput("A set needs at least one route.", field="routes")
    if len({place.route.pk for place in places}) != len(places):
        raise InvalidInput("Each route can be in the set once.", field="routes")
    if not all(0 <= place.weight <= MAX_WEIGHT for place in places):
        raise InvalidInput(f"A weight is a number from 0 to {MAX_WEIGHT}.", field="routes")
    is_weighted = strategy == RouteSet.Strategy.WEIGHTED
    if is_weighted and not any(place.weight for place in places):
        raise InvalidInput("At least one route needs a weight above 0.", field="routes")


def remove_route_set(*, operator: User, route_set: RouteSet) -> None:
    """Remove a set that no stream and no tenant uses. Raises Conflict."""
    require_operator(operator)
    streams = [STREAMS.get(row.stream, row.stream) for row in route_set.defaults.all()]
    if streams:
        raise Conflict(f"The set is the default of {', '.join(streams)}: choose another first.")
    try:
        with transaction.atomic():
            RouteSetMember.objects.filter(route_set=route_set).delete()
            RouteSet.objects.filter(pk=route_set.pk).delete()
            # Tenants' rules are not visible here, but the database knows them: it is asked now,
            # and not when the request is committed.
            with connection.cursor() as cursor:
                cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except IntegrityError as error:
        raise Conflict("A tenant uses this set: take its rule away first.") from error
    record_change(operator, "routes.remove_set", route_set.name)


def set_default_route(*, operator: User, stream: str, route_set: RouteSet | None) -> None:
    """Choose the set of a stream for tenants without a rule; None is direct delivery.

    A stream has one default at most; "any" is for those without one. Raises InvalidInput.
    """
    require_operator(operator)
    if stream not in STREAMS:
        raise InvalidInput("Choose a stream from the list.", field="stream")
    before = DefaultRoute.objects.filter(stream=stream).select_related("route_set").first()
    old = before.route_set.name if before is not None else "direct"
    new = route_set.name if route_set is not None else "direct"
    if old == new:
        return
    if route_set is None:
        DefaultRoute.objects.filter(stream=stream).delete()
    else:
        DefaultRoute.objects.update_or_create(stream=stream, defaults={"route_set": route_set})
    record_change(operator, "routes.set_default", stream, set=[old, new])


def assign_route_set(
    *, operator: User, tenant: Tenant, stream: str, route_set: RouteSet | None
) -> None:
    """Let a tenant's stream use a set; None gives it back to the default. Raises InvalidInput."""
    require_operator(operator)
    if stream not in STREAMS:
        raise InvalidInput("Choose a stream from the list.", field="stream")
    with scope(tenant.pk):
        if route_set is None:
            deleted, _ = RouteRule.objects.filter(stream=stream).delete()
            if not deleted:
                return
        else:
            RouteRule.objects.update_or_create(
                tenant=tenant, stream=stream, defaults={"route_set": route_set}
            )
        forget_routes()
        record(
            operator_actor(operator, tenant.pk),
            "routes.assign_set" if route_set else "routes.unassign_set",
            target=tenant.name,
            detail={"stream": stream, "set": route_set.name if route_set else "default"},
        )
