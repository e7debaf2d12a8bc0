"""The only way a door gets a hold: for operators."""

from __future__ import annotations

from deliverability.holds.models import SendingHold
from tenants.accounts.models import User
from tenants.directory.access import operator_object
from tenants.directory.models import Tenant
from tenants.scoping.context import scope


def access_hold(operator: User, tenant: Tenant, public_id: str) -> SendingHold:
    """Return a hold of `tenant`. Raises NotFound, for everyone but operators as well."""
    with scope(tenant.pk):
        return operator_object(operator, SendingHold.objects.all(), "hold", public_id, "hold")
