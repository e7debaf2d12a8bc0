"""Send a test of a campaign to a few addresses, by the way that transactional mail goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from django.db import transaction

from esp.lib.errors import InvalidInput
from esp.lib.ids import to_public
from sending.audience.attributes import variables_of
from sending.audience.models import Contact
from sending.campaigns.models import Campaign
from sending.campaigns.review import content_source
from sending.messages.models import MessageContent
from sending.messages.selectors import pending_compile
from sending.messages.services import accept_messages
from sending.messages.types import AcceptedItem, Recipient, SendRequest
from tenants.audit.services import record
from tenants.directory.actor import Actor

MAX_ADDRESSES = 5


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
    chosen = list(dict.fromkeys(address.strip() for address in addresses if address.strip()))
    _check(campaign, chosen)
    sender = campaign.sender
    assert sender is not None  # `_check`
    source = content_source(campaign)
    source = replace(source, subject=f"[Test] {source.subject or campaign.name}")
    variables = variables_of(as_contact) if as_contact else {}
    request = SendRequest(
        from_email=sender.email,
        from_name=sender.name,
        reply_to=sender.reply_to,
        recipients=tuple(
            Recipient(address, variables={**variables, "email": variables.get("email", address)})
            for address in chosen
        ),
        source=source,
        tags=("test",),
        metadata={"campaign": to_public("cmp", campaign.pk)},
    )
    with transaction.atomic():
        accepted = accept_messages(actor=_as_sender(actor), request=request)
        # Transactional content has no footer; a test has the one that readers will see.
        MessageContent.objects.filter(pk=accepted.content_id).update(
            compiled=pending_compile(source, footer=True)
        )
        record(
            actor,
            "campaigns.test",
            target=to_public("cmp", campaign.pk),
            detail={"addresses": chosen},
        )
    return list(accepted.items)


def _check(campaign: Campaign, addresses: Sequence[str]) -> None:
    if not addresses:
        raise InvalidInput("Enter an address.", field="addresses")
    if len(addresses) > MAX_ADDRESSES:
        raise InvalidInput(f"A test goes to {MAX_ADDRESSES} addresses at most.", field="addresses")
    if campaign.sender is None:
        raise InvalidInput("Choose a sender first, on the card “From”.", code="sender-missing")
    if not campaign.body.strip():
        raise InvalidInput("There is no content to send yet.", code="content-missing")


def _as_sender(actor: Actor) -> Actor:
    """A marketer may send tests without the right to send messages by the API."""
    return replace(actor, permissions=actor.permissions | {"messages:send"})
