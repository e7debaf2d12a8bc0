"""Make, check and revoke API keys."""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
import uuid
from dataclasses import dataclass

from django.db import connection
from django.utils import timezone

from esp.lib.errors import InvalidInput
from esp.lib.ids import decode, encode
from tenants.apikeys.models import ApiKey
from tenants.audit.services import record
from tenants.directory.actor import Actor
from tenants.directory.permissions import PERMISSIONS

_SECRET_BYTES = 30
# "Last used" is for people; a write for each request would cost more than it tells.
_LAST_USED_STEP = dt.timedelta(minutes=1)
_ALL_PERMISSIONS = frozenset(PERMISSIONS)
# Every request of the API asks this, and the ORM takes longer to word it than PostgreSQL to answer.
_LIVE_KEY = """
SELECT id, name, scopes, last_used_at FROM tenants_apikey
WHERE tenant_id = %s AND secret_hash = %s AND revoked_at IS NULL
"""


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def create_key(*, actor: Actor, name: str, scopes: list[str]) -> tuple[ApiKey, str]:
    """Make a key and return it with its text, which can never be shown again.

    A key cannot hold what its maker may not do. Raises InvalidInput.
    """
    actor.require("keys:write")
    name = name.strip()
    if not name:
        raise InvalidInput("Give the key a name that says where it is used.", field="name")
    unknown = sorted(set(scopes) - set(PERMISSIONS))
    if unknown or not scopes:
        raise InvalidInput("Choose at least one scope from the list.", field="scopes")
    excess = sorted(set(scopes) - actor.permissions)
    if excess:
        raise InvalidInput(
            f"You cannot give a key what you may not do yourself: {', '.join(excess)}.",
            field="scopes",
        )
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    key = ApiKey.objects.create(
        tenant_id=actor.tenant_id,
        name=name,
        prefix=secret[:6],
        secret_hash=_hash(secret),
        scopes=sorted(set(scopes)),
        created_by_id=actor.user_id,
    )
    record(actor, "apikeys.create", target=name, detail={"scopes": key.scopes})
    return key, f"mw_{encode(actor.tenant_id)}_{secret}"


def revoke_key(*, actor: Actor, key: ApiKey) -> None:
    """End a key at once. Revoking twice is no error."""
    actor.require("keys:write")
    changed = ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now())
    if changed:
        record(actor, "apikeys.revoke", target=key.name)


@dataclass(frozen=True, slots=True)
class KeyText:
    """What a key's text says; whether there is such a key is not known yet."""

    tenant_id: uuid.UUID
    secret: str


def read_key(text: str) -> KeyText | None:
    """Return what a key's text says, or None for anything that is none."""
    prefix, _, rest = text.partition("_")
    tenant_text, _, secret = rest.partition("_")
    if prefix != "mw" or not secret:
        return None
    try:
        return KeyText(decode(tenant_text), secret)
    except ValueError:
        return None


def actor_for_key(text: KeyText) -> Actor | None:
    """Return the actor of a live key, or None; in the scope of the tenant that its text names."""
    with connection.cursor() as cursor:
        cursor.execute(_LIVE_KEY, [text.tenant_id, _hash(text.secret)])
        row = cursor.fetchone()
    if row is None:
        return None
    key_id, name, scopes, last_used_at = row
    now = timezone.now()
    if last_used_at is None or now - last_used_at > _LAST_USED_STEP:
        ApiKey.objects.filter(pk=key_id).update(last_used_at=now)
    return Actor(
        tenant_id=text.tenant_id,
        permissions=frozenset(scopes) & _ALL_PERMISSIONS,
        api_key_id=key_id,
        label=f"API key {name}",
    )
