"""Write the audit log: one entry for every change, in the change's own transaction."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from tenants.audit.models import AuditEntry
from tenants.scoping.context import scope

# Of the request that is being answered: operators and people who sign in act without a tenant's
# actor that knows where they are.
_client_address: ContextVar[str | None] = ContextVar("client_address", default=None)


@contextmanager
def coming_from(address: str) -> Iterator[None]:
    """Note `address` in entries whose actor has none, while a request is answered."""
    token = _client_address.set(address)
    try:
        yield
    finally:
        _client_address.reset(token)


class ActingParty(Protocol):
    """What the log needs of an actor (`directory.Actor` fits)."""

    @property
    def tenant_id(self) -> uuid.UUID: ...
    @property
    def user_id(self) -> int | None: ...
    @property
    def api_key_id(self) -> uuid.UUID | None: ...
    @property
    def label(self) -> str: ...
    @property
    def ip_address(self) -> str | None: ...


def record(
    actor: ActingParty, action: str, *, target: str = "", detail: dict[str, Any] | None = None
) -> None:
    """Add an entry `action` ("room.verb") on `target` (public id or name) by `actor`.

    `detail` holds before and after, or counts; never a secret or a message's content.
    """
    with scope(actor.tenant_id):
        AuditEntry.objects.create(
            tenant_id=actor.tenant_id,
            actor_label=actor.label[:254],
            user_id=actor.user_id,
            api_key_id=actor.api_key_id,
            action=action,
            target=target[:300],
            detail=detail or {},
            ip_address=actor.ip_address or _client_address.get(),
        )
