"""Reads of tenants and their members."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import timezone

from tenants.accounts.models import User
from tenants.directory.actor import Actor
from tenants.directory.models import Invitation, Membership, Tenant
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


def members() -> list[Membership]:
    """Return the members of the tenant in scope with their people, oldest first."""
    return list(Membership.objects.select_related("user").order_by("created_at"))


def open_invitations() -> list[Invitation]:
    """Return the invitations of the tenant in scope that nobody has accepted, newest first."""
    rows = Invitation.objects.filter(accepted_at=None).select_related("invited_by")
    found = list(rows.order_by("-created_at"))
    now = timezone.now()
    for row in found:
        row.is_expired = row.expires_at <= now  # type: ignore[attr-defined]
    return found


def tenants_for_operator(*, search: str = "", status: str = "") -> QuerySet[Tenant]:
    """Return the tenants whose name or slug holds `search`, without the product's own."""
    rows = Tenant.objects.exclude(slug=settings.SYSTEM_TENANT_SLUG)
    if search:
        rows = rows.filter(Q(name__icontains=search) | Q(slug__icontains=search))
    if status:
        rows = rows.filter(status=status)
    return rows
