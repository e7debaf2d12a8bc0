"""The only way a door gets an API key."""

from __future__ import annotations

from esp.lib.errors import NotFound
from esp.lib.ids import from_public
from tenants.apikeys.models import ApiKey
from tenants.directory.actor import Actor


def access_key(actor: Actor, public_id: str, *, needs: str = "keys:write") -> ApiKey:
    """Return a key of the actor's tenant. Raises NotFound, PermissionMissing."""
    actor.require(needs)
    try:
        key = from_public("key", public_id)
    except ValueError as error:
        raise NotFound("There is no such key.") from error
    found = ApiKey.objects.filter(tenant_id=actor.tenant_id, pk=key).first()
    if found is None:
        raise NotFound("There is no such key.")
    return found
