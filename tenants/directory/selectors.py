"""Reads of tenants and their members."""

from __future__ import annotations

import uuid

from tenants.accounts.models import User
from tenants.directory.actor import Actor
from tenants.directory.models import Membership
from tenants.directory.permissions import ROLE_PERMISSIONS


def memberships_of(user: User) -> list[Membership]:
    """Return the person's memberships with their tenants, oldest first.

    Crosses tenants by design; row-level security lets a person's own rows through
    (`scoping.identify_user`).
    """
    return list(
        Membership.unscoped.filter(user=user).select_related("tenant").order_by("created_at")
    )


def actor_for_user(user: User, *, preferred: uuid.UUID | None) -> Actor | None:
    """Return the actor for a signed-in person in the preferred tenant, else in their first one.

    None when the person belongs to no tenant.
    """
    memberships = memberships_of(user)
    if not memberships:
        return None
    chosen = next((m for m in memberships if m.tenant_id == preferred), memberships[0])
    return Actor(
        tenant_id=chosen.tenant_id,
        permissions=ROLE_PERMISSIONS[chosen.role],
        user_id=user.pk,
        label=user.email,
    )
