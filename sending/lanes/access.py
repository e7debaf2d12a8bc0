"""The only way a door gets a lane or a limit: for operators."""

from __future__ import annotations

from esp.lib.errors import NotFound
from esp.lib.ids import from_public
from sending.lanes.models import LaneState, LimitOverride
from tenants.accounts.models import User


def access_lane(operator: User, public_id: str) -> LaneState:
    """Return a lane. Raises NotFound, for everyone but operators as well."""
    missing = NotFound("There is no such lane.")
    try:
        key = from_public("lane", public_id)
    except ValueError as error:
        raise missing from error
    found = LaneState.objects.filter(pk=key).first() if operator.is_operator else None
    if found is None:
        raise missing
    return found


def access_limit(operator: User, public_id: str) -> LimitOverride:
    """Return a limit that was set. Raises NotFound, for everyone but operators as well."""
    missing = NotFound("There is no such limit.")
    try:
        key = from_public("lim", public_id)
    except ValueError as error:
        raise missing from error
    found = LimitOverride.objects.filter(pk=key).first() if operator.is_operator else None
    if found is None:
        raise missing
    return found
