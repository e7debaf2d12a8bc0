"""Change what members are, and let them go. A tenant never loses its last owner."""

from __future__ import annotations

from esp.lib.errors import Conflict, InvalidInput, NotFound, PermissionMissing
from tenants.audit.services import record
from tenants.directory.actor import Actor
from tenants.directory.models import Membership, Tenant
from tenants.directory.permissions import Role


def is_owner(actor: Actor) -> bool:
    """Tell whether the actor is an owner now (a key never is)."""
    if actor.user_id is None:
        return False
    return Membership.objects.filter(user_id=actor.user_id, role=Role.OWNER).exists()


def _lock_members(actor: Actor) -> None:
    """Let one change of members at a time through: "is this the last owner" must not race.

    NO KEY, because rows that are being added to the tenant hold a key share on it.
    """
    Tenant.objects.select_for_update(no_key=True).get(pk=actor.tenant_id)


def _locked(actor: Actor, membership: Membership) -> Membership:
    _lock_members(actor)
    found = Membership.objects.filter(pk=membership.pk).select_related("user").first()
    if found is None:
        raise NotFound("This person is no member any more.")
    return found


def _refuse_without_owner(membership: Membership) -> None:
    others = Membership.objects.filter(role=Role.OWNER).exclude(pk=membership.pk)
    if membership.role == Role.OWNER and not others.exists():
        raise Conflict(
            "A workspace needs an owner: make someone else an owner first.", code="last-owner"
        )


def change_role(*, actor: Actor, membership: Membership, role: str) -> None:
    """Give a member another role.

    Only owners make owners or change them. Raises InvalidInput, PermissionMissing, and Conflict
    for the last owner.
    """
    actor.require("members:write")
    if role not in Role.values:
        raise InvalidInput("Choose a role from the list.", field="role")
    found = _locked(actor, membership)
    if Role.OWNER in (found.role, role) and not is_owner(actor):
        raise PermissionMissing("Only an owner can make or change an owner.")
    if found.role == role:
        return
    _refuse_without_owner(found)
    before, found.role = found.role, role
    found.save(update_fields=["role"])
    record(
        actor,
        "directory.change_role",
        target=found.user.email,
        detail={"before": before, "after": role},
    )


def remove_member(*, actor: Actor, membership: Membership) -> None:
    """Take a person out of the tenant; everyone may leave it themselves.

    Raises PermissionMissing, and Conflict for the last owner.
    """
    leaves = membership.user_id == actor.user_id
    if not leaves:
        actor.require("members:write")
    found = _locked(actor, membership)
    if found.role == Role.OWNER and not leaves and not is_owner(actor):
        raise PermissionMissing("Only an owner can remove an owner.")
    _refuse_without_owner(found)
    email, role = found.user.email, found.role
    found.delete()
    record(
        actor,
        "directory.leave" if leaves else "directory.remove_member",
        target=email,
        detail={"role": role},
    )
