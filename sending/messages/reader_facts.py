"""What a recipient's own wish or act means for a message, however it reaches us.

Links and pixels (`tracking`) and mails (`feedback`) bring the same wishes; these rooms do not know
each other, so what they share stands here.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from django.utils import timezone

from sending.audience.services import unsubscribe
from sending.audience.suppressions import SuppressionEntry, suppress_many
from sending.events.models import EventKind
from sending.events.services import Fact, record_facts
from sending.messages.models import Message, MessageContent


def fact_of(
    message: Message,
    kind: str,
    at: dt.datetime,
    *,
    is_machine: bool = False,
    detail: Mapping[str, object] | None = None,
) -> Fact:
    """Return the event `kind` (an EventKind) of `message`, ready for the log."""
    return Fact(
        tenant_id=message.tenant_id,
        message_id=message.pk,
        batch_id=message.batch_id,
        contact_id=message.contact_id,
        recipient=message.recipient,
        site=message.known_site,
        kind=kind,
        at=at,
        is_machine=is_machine,
        detail=detail or {},
    )


def unsubscribe_recipient(message: Message, *, method: str) -> None:
    """Take the recipient off the lists that the message went to; doing it twice is one effect.

    `method` is one_click, page, mail, complaint or provider (its own link or list). A recipient who
    is no contact (API mail) gets a suppression for marketing mail instead. In the scope of the
    message's tenant. A test's links change nothing: who tries them out must go on getting mail.
    """
    if is_test(message):
        return
    if not leave_lists_of(message, source=f"message:{method}"):
        suppress_marketing(message, method=method)
    now = timezone.now()
    first = Message.objects.filter(pk=message.pk, unsubscribed_at=None).update(unsubscribed_at=now)
    if first:
        record_facts([fact_of(message, EventKind.UNSUBSCRIBED, now, detail={"method": method})])


def leave_lists_of(message: Message, *, source: str) -> bool:
    """Unsubscribe the recipient from the message's lists; False where it went to no list."""
    content = MessageContent.objects.filter(pk=message.content_id).first()
    if not (message.contact_id and content and content.list_ids):
        return False
    unsubscribe(
        tenant_id=message.tenant_id,
        contact_id=message.contact_id,
        list_ids=content.list_ids,
        source=source,
    )
    return True


def is_test(message: Message) -> bool:
    """Tell whether a member sent the message as a test of content."""
    return MessageContent.objects.filter(pk=message.content_id, is_test=True).exists()


def suppress_marketing(message: Message, *, method: str) -> None:
    """Let the recipient get no marketing mail of this tenant any more; a test changes nothing."""
    if is_test(message):
        return
    suppress_many(
        [
            SuppressionEntry(
                tenant_id=message.tenant_id,
                email_norm=message.recipient,
                scope="broadcast",
                reason="unsubscribe",
                source=f"message:{method}",
            )
        ]
    )
