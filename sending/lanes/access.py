"""The only way a door gets a lane or a limit: for operators."""

from __future__ import annotations

from sending.lanes.models import LaneState, LimitOverride
from tenants.accounts.models import User
from tenants.directory.access import operator_object


def access_lane(operator: User, public_id: str) -> LaneState:
    """Return a lane. Raises NotFound, for everyone but operators as well."""
    return operator_object(operator, LaneState.objects.all(), "lane", public_id, "lane")


def access_limit(operator: User, public_id: str) -> LimitOverride:
    """Return a limit that was set. Raises NotFound, for everyone but operators as well."""
    return operator_object(operator, LimitOverride.objects.all(), "lim", public_id, "limit")
