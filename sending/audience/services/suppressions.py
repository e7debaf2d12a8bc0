"""Suppress an address, and lift that by a person's decision."""

from __future__ import annotations

import uuid

from esp.lib.addresses import parse_address
from esp.lib.errors import InvalidInput
from sending.audience.models import Suppression
from sending.audience.suppressions import SuppressionEntry, suppress_many
from tenants.audit.services import record
from tenants.directory.actor import Actor
from tenants.scoping.context import scope as tenant_scope


def suppress(
    *,
    tenant_id: uuid.UUID,
    email_norm: str,
    scope: str = Suppression.Scope.ALL,
    reason: str,
    source: str = "",
    detail: str = "",
) -> bool:
    """Suppress a normalised address; return whether that is new. What stands is never weakened."""
    entry = SuppressionEntry(
        tenant_id=tenant_id,
        email_norm=email_norm,
        scope=scope,
        reason=reason,
        source=source,
        detail=detail,
    )
    with tenant_scope(tenant_id):
        return suppress_many([entry]) == 1


def add_suppression(
    *, actor: Actor, email: str, scope: str = Suppression.Scope.ALL, detail: str = ""
) -> tuple[Suppression, bool]:
    """Suppress an address by hand; return the row and whether it is new.

    Raises InvalidInput for what is no address or scope.
    """
    actor.require("suppressions:write")
    if scope not in Suppression.Scope.values:
        raise InvalidInput("Choose all mail or marketing mail.", field="scope")
    try:
        address = parse_address(email, allow_smtputf8=True)
    except InvalidInput as error:
        raise InvalidInput(error.message, code=error.code, field="email") from error
    created = suppress(
        tenant_id=actor.tenant_id,
        email_norm=address.normalised,
        scope=scope,
        reason=Suppression.Reason.MANUAL,
        source=actor.label[:120],
        detail=detail,
    )
    with tenant_scope(actor.tenant_id):
        row = Suppression.objects.get(email_norm=address.normalised, scope=scope)
    if created:
        record(actor, "suppression.add", target=address.normalised, detail={"scope": scope})
    return row, created


def remove_suppression(*, actor: Actor, suppression: Suppression) -> None:
    """Let an address be written to again; it stands in the audit log with the old reason."""
    actor.require("suppressions:write")
    with tenant_scope(actor.tenant_id):
        suppression.delete()
    record(
        actor,
        "suppression.remove",
        target=suppression.email_norm,
        detail={
            "scope": suppression.scope,
            "reason": suppression.reason,
            "since": suppression.created_at.isoformat(),
        },
    )
