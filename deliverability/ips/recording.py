"""Who may change source IPs, and where that is written down."""

from __future__ import annotations

from typing import Any

from deliverability.ips.caps import forget_caps
from deliverability.ips.selectors import forget_sources
from esp.lib.errors import NotFound
from tenants.accounts.models import User
from tenants.audit.services import record
from tenants.directory.actor import operator_actor
from tenants.directory.services import get_or_create_system_tenant


def require_operator(operator: User) -> None:
    """Raise NotFound for everyone but operators."""
    if not operator.is_operator:
        raise NotFound("There is nothing at this address.")


def record_change(operator: User, action: str, target: str, **detail: Any) -> None:
    """Write a change to the product's own audit log, and drop what this process has kept."""
    forget_sources()
    forget_caps()
    actor = operator_actor(operator, get_or_create_system_tenant().pk)
    record(actor, action, target=target, detail=detail)


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, list[Any]]:
    """Return what differs, as [before, after] by name."""
    return {key: [before[key], after[key]] for key in after if before[key] != after[key]}
