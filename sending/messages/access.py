"""The only way for a door to get a message or a batch."""

from __future__ import annotations

from esp.lib.errors import NotFound
from esp.lib.ids import from_public
from sending.messages.models import Batch, Message
from tenants.directory.actor import Actor


def access_message(actor: Actor, message_id: str, *, needs: str = "messages:read") -> Message:
    """Return the tenant's message `msg_…`; raises NotFound, PermissionMissing."""
    actor.require(needs)
    try:
        return Message.objects.get(pk=from_public("msg", message_id))
    except (ValueError, Message.DoesNotExist) as error:
        raise NotFound("There is no such message.") from error


def access_batch(actor: Actor, batch_id: str, *, needs: str = "messages:read") -> Batch:
    """Return the tenant's batch `bat_…`; raises NotFound, PermissionMissing."""
    actor.require(needs)
    try:
        return Batch.objects.get(pk=from_public("bat", batch_id))
    except (ValueError, Batch.DoesNotExist) as error:
        raise NotFound("There is no such batch.") from error
