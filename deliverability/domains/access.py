"""The only way for a door to get a domain or a sender."""

from __future__ import annotations

from deliverability.domains.models import Domain, Sender
from esp.lib.errors import NotFound
from esp.lib.ids import from_public
from tenants.directory.actor import Actor


def access_domain(actor: Actor, domain_id: str, *, needs: str = "domains:read") -> Domain:
    """Return the tenant's domain `dom_…`; raises NotFound, PermissionMissing."""
    actor.require(needs)
    try:
        return Domain.objects.get(pk=from_public("dom", domain_id))
    except (ValueError, Domain.DoesNotExist) as error:
        raise NotFound("There is no such domain.") from error


def access_sender(actor: Actor, sender_id: str, *, needs: str = "domains:read") -> Sender:
    """Return the tenant's sender `snd_…`; raises NotFound, PermissionMissing."""
    actor.require(needs)
    try:
        return Sender.objects.select_related("domain").get(pk=from_public("snd", sender_id))
    except (ValueError, Sender.DoesNotExist) as error:
        raise NotFound("There is no such sender.") from error
