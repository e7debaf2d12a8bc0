"""Look at content as a contact gets it, and send it to a few addresses as a test.

This room stands between content and audience, which do not know each other, and the rooms that
show previews: templates' pages by its doors, campaigns by these functions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from django.db import transaction

from deliverability.domains.models import Sender
from esp.lib.errors import InvalidInput, PermissionMissing
from sending.audience.attributes import variables_of
from sending.audience.models import Contact
from sending.content import preview as looks
from sending.content.models import CompiledVersion
from sending.content.preview import Preview
from sending.content.types import ContentSource
from sending.messages.models import MessageContent
from sending.messages.selectors import pending_compile
from sending.messages.services import accept_messages
from sending.messages.types import AcceptedItem, Recipient, SendRequest
from tenants.audit.services import record
from tenants.directory.actor import Actor
from tenants.directory.models import Tenant
from tenants.scoping.context import current_tenant_id

MAX_ADDRESSES = 5
_BETWEEN = re.compile(r"[\s,;]+")


def variables_for(contact: Contact | None) -> dict[str, object]:
    """Return what templates know of `contact`; of nobody only an address is known."""
    return variables_of(contact) if contact else {"email": "reader@example.com"}


def preview_as_contact(*, source: ContentSource, contact: Contact | None, footer: bool) -> Preview:
    """Return how `source` looks to `contact` (None: someone of whom only the address is known)."""
    return looks.preview(
        source, variables_for(contact), footer=footer, postal_address=_postal_address()
    )


def preview_version(*, version: CompiledVersion, contact: Contact | None) -> Preview:
    """Return how a version that was asked for before looks to `contact`."""
    return looks.preview_of_version(
        version,
        variables_for(contact),
        footer=bool(version.source.get("footer")),
        postal_address=_postal_address(),
    )


def _postal_address() -> str:
    return Tenant.objects.get(pk=current_tenant_id()).postal_address


def addresses_in(text: str) -> list[str]:
    """Return the addresses of a text in which they stand apart by blanks, commas or lines."""
    return list(dict.fromkeys(part for part in _BETWEEN.split(text) if part))


def send_test(
    *,
    actor: Actor,
    source: ContentSource,
    sender: Sender,
    addresses: Sequence[str],
    variables: Mapping[str, object],
    footer: bool,
    target: str,
) -> list[AcceptedItem]:
    """Send `source`, filled in with `variables`, to up to five addresses.

    It goes the way of transactional mail, so that it does not wait behind a campaign. The subject
    begins with “[Test]”; opens and clicks are not measured, and unsubscribing has no effect; with
    `footer` it ends as broadcast mail does. `target` is the public id of what is tested, for the
    audit log. Returns what became of each address: a suppressed one is dropped. Raises
    InvalidInput, ContentError (with the field), SenderNotVerified, PermissionMissing.
    """
    if not (actor.may("campaigns:send") or actor.may("messages:send")):
        raise PermissionMissing("Sending tests needs the permission to send campaigns or messages.")
    if not addresses:
        raise InvalidInput("Enter at least one address.", field="addresses")
    if len(addresses) > MAX_ADDRESSES:
        raise InvalidInput(f"A test goes to {MAX_ADDRESSES} addresses at most.", field="addresses")
    if not source.body.strip():
        raise InvalidInput("There is no content to send yet.", code="content-missing")
    source = replace(source, subject=f"[Test] {source.subject}".strip())
    with transaction.atomic():
        accepted = accept_messages(
            # Who may send to a whole list may send a test without the API's permission.
            actor=replace(actor, permissions=actor.permissions | {"messages:send"}),
            request=_request(source, sender, addresses, variables, target),
        )
        content = MessageContent.objects.filter(pk=accepted.content_id)
        content.update(is_test=True)
        if footer:  # transactional content has none
            content.update(compiled=pending_compile(source, footer=True))
        record(actor, "previews.test", target=target, detail={"addresses": list(addresses)})
    return list(accepted.items)


def _request(
    source: ContentSource,
    sender: Sender,
    addresses: Sequence[str],
    variables: Mapping[str, object],
    target: str,
) -> SendRequest:
    return SendRequest(
        from_email=sender.email,
        from_name=sender.name,
        reply_to=sender.reply_to,
        recipients=tuple(
            Recipient(address, variables={"email": address, **variables}) for address in addresses
        ),
        source=source,
        tags=("test",),
        metadata={"test_of": target},
    )
