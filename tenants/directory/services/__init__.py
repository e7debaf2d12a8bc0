"""Verbs about tenants: the tenants themselves, their members, invitations."""

from __future__ import annotations

from tenants.directory.services.invitations import (
    OpenInvitation,
    accept_as_member,
    accept_as_new_person,
    find_invitation,
    invite_member,
    invite_owner,
    revoke_invitation,
)
from tenants.directory.services.members import change_role, remove_member
from tenants.directory.services.tenants import (
    create_tenant,
    get_or_create_system_tenant,
    note_operator_view,
    set_weight,
    suspend_tenant,
    unsuspend_tenant,
    update_workspace,
)

__all__ = [
    "OpenInvitation",
    "accept_as_member",
    "accept_as_new_person",
    "change_role",
    "create_tenant",
    "find_invitation",
    "get_or_create_system_tenant",
    "invite_member",
    "invite_owner",
    "note_operator_view",
    "remove_member",
    "revoke_invitation",
    "set_weight",
    "suspend_tenant",
    "unsuspend_tenant",
    "update_workspace",
]
