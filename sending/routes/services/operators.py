"""What the verbs of operators share: who may, and where it is written down."""

from __future__ import annotations

from typing import Any

from esp.lib.errors import NotFound
from sending.routes.selectors import forget_routes
from tenants.accounts.models import User
from tenants.audit.services import record
from tenants.directory.actor import operator_actor
from tenants.directory.services import get_or_create_system_tenant


def require_operator(user: User) -> None:
    """Raise NotFound for everyone but operators: to them there is nothing here."""
    if not user.is_operator:
        raise NotFound("There is nothing at this address.")


def record_change(operator: User, action: str, target: str, **detail: Any) -> None:
    """Write the product's own audit log, and let this process see the change at once."""
    forget_routes()
    actor = operator_actor(operator, get_or_create_system_tenant().pk)
    record(actor, action, target=target, detail=detail)
