"""Make, suspend and change tenants."""

from __future__ import annotations

import zoneinfo

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils.text import slugify

from esp.lib.errors import Conflict, InvalidInput, NotFound
from tenants.accounts.models import User
from tenants.audit.services import record
from tenants.directory.actor import Actor, operator_actor
from tenants.directory.models import Tenant
from tenants.directory.services.invitations import invite_owner

_SLUG_TRIES = 20

MIN_WEIGHT, MAX_WEIGHT = 1, 100


def _require_operator(operator: User) -> None:
    if not operator.is_operator:
        raise NotFound("There is nothing at this address.")


def get_or_create_system_tenant() -> Tenant:
    """Return the tenant that the product's own mail and the operators' entries belong to."""
    tenant, _ = Tenant.objects.get_or_create(
        slug=settings.SYSTEM_TENANT_SLUG, defaults={"name": "Mailwright"}
    )
    return tenant


def create_tenant(*, operator: User, name: str, owner_email: str) -> Tenant:
    """Make a tenant and invite its first owner by mail. Raises InvalidInput."""
    _require_operator(operator)
    name = " ".join(name.split())
    if not name:
        raise InvalidInput("Give the tenant a name.", field="name")
    with transaction.atomic():
        tenant = _insert(name)
        actor = operator_actor(operator, tenant.pk)
        record(actor, "directory.create_tenant", target=name, detail={"owner": owner_email})
        invite_owner(operator=operator, tenant=tenant, email=owner_email)
    return tenant


def _insert(name: str) -> Tenant:
    base = slugify(name)[:50] or "tenant"
    for number in range(1, _SLUG_TRIES + 1):
        slug = base if number == 1 else f"{base}-{number}"
        if slug == settings.SYSTEM_TENANT_SLUG:
            continue
        try:
            with transaction.atomic():
                return Tenant.objects.create(name=name, slug=slug)
        except IntegrityError:
            continue
    raise InvalidInput("Too many tenants have this name already.", field="name")


def suspend_tenant(*, operator: User, tenant: Tenant, reason: str) -> None:
    """Stop a tenant's sending; its members read the reason. Raises InvalidInput, Conflict."""
    _require_operator(operator)
    reason = reason.strip()
    if not reason:
        raise InvalidInput("Say why: the members read it.", field="reason")
    if tenant.slug == settings.SYSTEM_TENANT_SLUG:
        raise Conflict("The product's own tenant cannot be suspended.")
    changed = Tenant.objects.filter(pk=tenant.pk, status=Tenant.Status.ACTIVE).update(
        status=Tenant.Status.SUSPENDED, suspended_reason=reason
    )
    if not changed:
        raise Conflict("The tenant is suspended already.")
    actor = operator_actor(operator, tenant.pk)
    record(actor, "directory.suspend_tenant", target=tenant.name, detail={"reason": reason})


def unsuspend_tenant(*, operator: User, tenant: Tenant) -> None:
    """Let a tenant send again. Raises Conflict when it is not suspended."""
    _require_operator(operator)
    changed = Tenant.objects.filter(pk=tenant.pk, status=Tenant.Status.SUSPENDED).update(
        status=Tenant.Status.ACTIVE, suspended_reason=""
    )
    if not changed:
        raise Conflict("The tenant is not suspended.")
    record(operator_actor(operator, tenant.pk), "directory.unsuspend_tenant", target=tenant.name)


def set_weight(*, operator: User, tenant: Tenant, weight: int) -> None:
    """Set a tenant's share of what it uses with others, 1 to 100. Raises InvalidInput."""
    _require_operator(operator)
    if not MIN_WEIGHT <= weight <= MAX_WEIGHT:
        raise InvalidInput(f"A weight is {MIN_WEIGHT} to {MAX_WEIGHT}.", field="weight")
    before = tenant.weight
    if weight == before:
        return
    Tenant.objects.filter(pk=tenant.pk).update(weight=weight)
    tenant.weight = weight
    actor = operator_actor(operator, tenant.pk)
    detail = {"weight": [before, weight]}
    record(actor, "directory.set_weight", target=tenant.name, detail=detail)


def note_operator_view(*, operator: User, tenant: Tenant) -> None:
    """Put into the tenant's audit log that an operator looked at it."""
    _require_operator(operator)
    actor = operator_actor(operator, tenant.pk)
    record(actor, "directory.view_tenant", target=tenant.name)


def update_workspace(*, actor: Actor, name: str, postal_address: str, timezone: str) -> Tenant:
    """Change the workspace's settings. Raises InvalidInput."""
    actor.require("settings:write")
    tenant = Tenant.objects.select_for_update(no_key=True).get(pk=actor.tenant_id)
    after = {
        "name": " ".join(name.split()),
        "postal_address": "\n".join(
            line for raw in postal_address.splitlines() if (line := raw.strip())
        ),
        "timezone": timezone,
    }
    if not after["name"]:
        raise InvalidInput("Give the workspace a name.", field="name")
    if timezone not in zoneinfo.available_timezones():
        raise InvalidInput("Choose a time zone from the list.", field="timezone")
    before = {key: getattr(tenant, key) for key in after}
    changed = {key: [before[key], after[key]] for key in after if before[key] != after[key]}
    if changed:
        for key, value in after.items():
            setattr(tenant, key, value)
        tenant.save(update_fields=list(after))
        record(actor, "directory.update_workspace", target=tenant.name, detail=changed)
    return tenant
