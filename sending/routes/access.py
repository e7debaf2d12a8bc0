"""The only way a door gets a route or a set: for operators."""

from __future__ import annotations

from sending.routes.models import Route, RouteSet
from tenants.accounts.models import User
from tenants.directory.access import operator_object


def access_route(operator: User, public_id: str) -> Route:
    """Return a route. Raises NotFound, for everyone but operators as well."""
    return operator_object(operator, Route.objects.all(), "rte", public_id, "route")


def access_route_set(operator: User, public_id: str) -> RouteSet:
    """Return a set. Raises NotFound, for everyone but operators as well."""
    return operator_object(operator, RouteSet.objects.all(), "rset", public_id, "set of routes")
