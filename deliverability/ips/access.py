"""The only way a door gets a pool or a source IP: for operators."""

from __future__ import annotations

from deliverability.ips.models import IpAddress, IpPool
from tenants.accounts.models import User
from tenants.directory.access import operator_object


def access_pool(operator: User, public_id: str) -> IpPool:
    """Return a pool. Raises NotFound, for everyone but operators as well."""
    return operator_object(operator, IpPool.objects.all(), "pool", public_id, "pool")


def access_address(operator: User, public_id: str) -> IpAddress:
    """Return a source IP with its pool. Raises NotFound, for everyone but operators as well."""
    rows = IpAddress.objects.select_related("pool")
    return operator_object(operator, rows, "ip", public_id, "address")
