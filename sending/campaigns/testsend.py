"""Send a test of a campaign to a few addresses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from esp.lib.errors import InvalidInput
from sending.audience.models import Contact
from sending.campaigns.models import Campaign
from sending.campaigns.review import content_source
from sending.messages.types import AcceptedItem
from sending.previews import services as previews
from tenants.directory.actor import Actor


def send_test(
    *,
    actor: Actor,
    campaign: Campaign,
    addresses: Sequence[str],
    as_contact: Contact | None = None,
) -> list[AcceptedItem]:
    """Send the campaign as it stands to up to five addresses, filled in for `as_contact`.

    The subject begins with “[Test]”; opens and clicks are not measured; footer and unsubscribe
    links are those of the real mail. Returns what became of each address: a suppressed one is
    dropped. Raises InvalidInput (field at fault), ContentError, SenderNotVerified.
    """
    actor.require("campaigns:write")
    if campaign.sender is None:
        raise InvalidInput("Choose a sender first, on the card “From”.", code="sender-missing")
    source = content_source(campaign)
    return previews.send_test(
        actor=actor,
        source=replace(source, subject=source.subject or campaign.name),
        sender=campaign.sender,
        addresses=list(dict.fromkeys(address.strip() for address in addresses if address.strip())),
        variables=previews.variables_for(as_contact) if as_contact else {},
        footer=True,
        target=campaign.public_id,
    )
