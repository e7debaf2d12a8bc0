"""What every page shows of the workspace: the tenant, the person's other tenants, their rights."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from tenants.directory.actor import Actor
from tenants.directory.models import Membership, Tenant
from tenants.directory.permissions import PERMISSIONS
from tenants.directory.selectors import memberships_of


def workspace(request: HttpRequest) -> dict[str, Any]:
    """Return `tenant`, `memberships` and `may` (`{% if may.campaigns_send %}`) for templates."""
    actor: Actor | None = getattr(request, "actor", None)
    if actor is None or actor.user_id is None:
        return {"tenant": None, "memberships": [], "may": {}}

    def current() -> Tenant:
        return Tenant.objects.get(pk=actor.tenant_id)

    def own() -> list[Membership]:
        return memberships_of(request.user)  # type: ignore[arg-type]

    return {
        "tenant": SimpleLazyObject(current),
        "memberships": SimpleLazyObject(own),
        "may": {name.replace(":", "_"): actor.may(name) for name in PERMISSIONS},
    }
