"""The only way a door gets a pool or a source IP: for operators."""

from __future__ import annotations

from deliverability.ips.models import IpAddress, IpPool
from esp.lib.errors import NotFound
from esp.lib.ids import from_public
from tenants.accounts.models import User


def access_pool(operator: User, public_id: str) -> IpPool:
    """Return a pool. Raises NotFound, for everyone but operators as well."""
    missing = NotFound("There is no such pool.")
    try:
        key = from_public("pool", public_id)
    except ValueError as error:
        raise missing from error
    found = IpPool.objects.filter(pk=key).first() if operator.is_operator else None
    if found is None:
        raise missing
    return found


def access_address(operator: User, public_id: str) -> IpAddress:
    """Return a source IP with its pool. Raises NotFound, for everyone but operators as well."""
    missing = NotFound("There is no such address.")
    try:
        key = from_public("ip", public_id)
    except ValueError as error:
        raise missing from error
    rows = IpAddress.objects.select_related("pool").filter(pk=key)
    found = rows.first() if operator.is_operator else None
    if found is None:
        raise missing
    return found
