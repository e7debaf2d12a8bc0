"""The only way a door gets a member, an invitation or (an operator) a tenant."""

from __future__ import annotations

from esp.lib.errors import NotFound
from esp.lib.ids import from_public
from tenants.accounts.models import User
from tenants.directory.actor import Actor
from tenants.directory.models import Invitation, Membership, Tenant


def access_member(actor: Actor, public_id: str, *, needs: str = "members:write") -> Membership:
    """Return a member of the actor's tenant. Raises NotFound, PermissionMissing."""
    actor.require(needs)
    return _member(actor, public_id)


def access_own_membership(actor: Actor) -> Membership:
    """Return the membership that the actor acts by. Raises NotFound."""
    found = None
    if actor.user_id is not None:
        rows = Membership.objects.filter(tenant_id=actor.tenant_id, user_id=actor.user_id)
        found = rows.select_related("user").first()
    if found is None:
        raise NotFound("You are no member here.")
    return found


def _member(actor: Actor, public_id: str) -> Membership:
    try:
        key = from_public("mem", public_id)
    except ValueError as error:
        raise NotFound("There is no such member.") from error
    rows = Membership.objects.filter(tenant_id=actor.tenant_id, pk=key)
    found = rows.select_related("user").first()
    if found is None:
        raise NotFound("There is no such member.")
    return found


def access_invitation(actor: Actor, public_id: str, *, needs: str = "members:write") -> Invitation:
    """Return an invitation of the actor's tenant. Raises NotFound, PermissionMissing."""
    actor.require(needs)
    try:
        key = from_public("inv", public_id)
    except ValueError as error:
        raise NotFound("There is no such invitation.") from error
    found = Invitation.objects.filter(tenant_id=actor.tenant_id, pk=key).first()
    if found is None:
        raise NotFound("There is no such invitation.")
    return found


def access_tenant(operator: User, public_id: str) -> Tenant:
    """Return any tenant, for an operator. Raises NotFound, for everyone else as well."""
    missing = NotFound("There is no such tenant.")
    if not operator.is_operator:
        raise missing
    try:
        key = from_public("ten", public_id)
    except ValueError as error:
        raise missing from error
    found = Tenant.objects.filter(pk=key).first()
    if found is None:
        raise missing
    return found
