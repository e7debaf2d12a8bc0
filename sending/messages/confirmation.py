"""The mail that asks someone to confirm a subscription (double opt-in)."""

from __future__ import annotations

import uuid

from deliverability.domains.models import Sender
from sending.audience.services import confirmation_content
from sending.content.types import ContentSource
from sending.messages.idempotency import claim_key, store_answer
from sending.messages.literal import BRACE, literal
from sending.messages.services import accept_messages
from sending.messages.types import AcceptedBatch, Recipient, SendRequest
from tenants.directory.actor import system_actor
from tenants.scoping.context import scope


def send_confirmation(
    *, tenant_id: uuid.UUID, subscription_id: uuid.UUID, form_id: uuid.UUID, key: str
) -> AcceptedBatch | None:
    """Queue the confirmation mail; None when there is nothing to confirm any more.

    `key` names the wish to confirm: a job that runs twice with it sends one mail. The mail goes by
    the form's sender and is neither tracked nor filled in: what the audience rendered is final.
    Raises DomainError when the sender's domain is not verified any more.
    """
    with scope(tenant_id):
        if claim_key(key, f"{subscription_id}") is not None:
            return None
        content = confirmation_content(
            tenant_id=tenant_id, subscription_id=subscription_id, form_id=form_id
        )
        if content is None:
            return None
        sender = Sender.objects.get(pk=uuid.UUID(str(content.sender_id)))
        accepted = accept_messages(
            actor=system_actor(tenant_id, "sign-up form"),
            request=SendRequest(
                from_email=sender.email,
                from_name=sender.name,
                reply_to=sender.reply_to,
                recipients=(
                    Recipient(
                        email=content.recipient,
                        name=content.recipient_name,
                        variables=BRACE,
                        contact_id=uuid.UUID(str(content.contact_id)),
                    ),
                ),
                source=ContentSource(
                    kind="html",
                    body=literal(content.html),
                    subject=literal(content.subject),
                    text_body=literal(content.text),
                ),
                tags=("confirmation",),
            ),
        )
        store_answer(key, 202, {})
        return accepted
