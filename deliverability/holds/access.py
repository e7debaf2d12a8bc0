"""The only way a door gets a hold: for operators."""

from __future__ import annotations

from deliverability.holds.models import SendingHold
from esp.lib.errors import NotFound
from esp.lib.ids import from_public
from tenants.accounts.models import User
from tenants.directory.models import Tenant
from tenants.scoping.context import scope


def access_hold(operator: User, tenant: Tenant, public_id: str) -> SendingHold:
    """Return a hold of `tenant`. Raises NotFound, for everyone but operators as well."""
    missing = NotFound("There is no such hold.")
    if not operator.is_operator:
        raise missing
    try:
        key = from_public("hold", public_id)
    except ValueError as error:
        raise missing from error
    with scope(tenant.pk):
        found = SendingHold.objects.filter(pk=key).first()
    if found is None:
        raise missing
    return found
