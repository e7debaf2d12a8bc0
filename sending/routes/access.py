"""The only way a door gets a route or a set: for operators."""

from __future__ import annotations

from esp.lib.errors import NotFound
from esp.lib.ids import from_public
from sending.routes.models import Route, RouteSet
from tenants.accounts.models import User


def access_route(operator: User, public_id: str) -> Route:
    """Return a route. Raises NotFound, for everyone but operators as well."""
    missing = NotFound("There is no such route.")
    try:
        key = from_public("rte", public_id)
    except ValueError as error:
        raise missing from error
    found = Route.objects.filter(pk=key).first() if operator.is_operator else None
    if found is None:
        raise missing
    return found


def access_route_set(operator: User, public_id: str) -> RouteSet:
    """Return a set. Raises NotFound, for everyone but operators as well."""
    missing = NotFound("There is no such set of routes.")
    try:
        key = from_public("rset", public_id)
    except ValueError as error:
        raise missing from error
    found = RouteSet.objects.filter(pk=key).first() if operator.is_operator else None
    if found is None:
        raise missing
    return found
