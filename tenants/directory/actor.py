"""Who acts: a person in a tenant or an API key, with what they may do there."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from esp.lib.errors import PermissionMissing
from tenants.accounts.models import User
from tenants.directory.permissions import PERMISSIONS


@dataclass(frozen=True)
class Actor:
    """The one that a door acts for; made by the middleware, passed to `access_*` and services."""

    tenant_id: uuid.UUID
    permissions: frozenset[str]
    user_id: int | None = None
    api_key_id: uuid.UUID | None = None
    label: str = ""  # name for the audit log: the person's address or the key's name
    ip_address: str | None = None  # of the client, for the audit log

    def may(self, permission: str) -> bool:
        """Tell whether the actor has `permission`; an unknown name is a bug and raises."""
        if permission not in PERMISSIONS:
            raise ValueError(f"there is no permission {permission!r}")
        return permission in self.permissions

    def require(self, permission: str) -> None:
        """Raise PermissionMissing unless the actor has `permission`."""
        if not self.may(permission):
            raise PermissionMissing(
                f"This needs the permission “{PERMISSIONS[permission]}” ({permission})."
            )


def system_actor(tenant_id: uuid.UUID, label: str) -> Actor:
    """Return the actor for what the product itself does (`label` says which part)."""
    return Actor(tenant_id=tenant_id, permissions=frozenset(PERMISSIONS), label=label)


def operator_actor(operator: User, tenant_id: uuid.UUID) -> Actor:
    """Return the actor that stands in a tenant's audit log for what an operator does there.

    It has no permission: an operator runs tenants, and does not act as one of their members.
    """
    return Actor(
        tenant_id=tenant_id,
        permissions=frozenset(),
        user_id=operator.pk,
        label=f"Operator {operator.email}",
    )
