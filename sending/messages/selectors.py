"""Reads of messages, batches and their content."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from django.db import connection
from django.utils import timezone

from deliverability.domains.models import Domain
from deliverability.domains.selectors import covering_names
from esp.kit.paging import Page, newest_by_keys
from sending.audience.models import Suppression
from sending.content.errors import ContentError
from sending.content.render import Renderer, variables_of
from sending.content.types import CompiledContent, ContentSource, RenderContext
from sending.messages.finding import MessageFilter, find_keys
from sending.messages.models import Batch, Message, MessageContent, QueueEntry, Stream
from tenants.directory.models import Tenant
from tenants.scoping.context import current_tenant_id

# A filter that finds little must not walk through years of partitions.
DEFAULT_WINDOW = dt.timedelta(days=30)


def messages_page(
    chosen: MessageFilter,
    *,
    after: str | None = None,
    before: str | None = None,
    size: int = 50,
) -> Page[Message]:
    """Return a page of the messages of the tenant in scope, newest first.

    Without `since` the last 30 days are looked through, unless one recipient or batch is asked for
    (both have a way of their own).
    """
    if chosen.since is None and not chosen.recipient and chosen.batch_id is None:
        chosen = replace(chosen, since=timezone.now() - DEFAULT_WINDOW)
    find = partial(find_keys, current_tenant_id(), chosen)
    return newest_by_keys(Message.objects.all(), find, after=after, before=before, size=size)


def messages_for_recipient(email: str, *, limit: int = 20) -> list[Message]:
    """Return the newest messages of the tenant in scope to an address (normalised)."""
    keys = find_keys(current_tenant_id(), MessageFilter(recipient=email), limit=limit)
    return list(Message.objects.filter(pk__in=keys).order_by("-id"))


def content_of(message: Message) -> MessageContent | None:
    """Return the content of a message without its attachments, or None when it is gone."""
    return MessageContent.objects.filter(pk=message.content_id).defer("attachments").first()


def queue_entry_of(message: Message) -> QueueEntry | None:
    """Return the place of a message in the queue, or None when it is final."""
    return QueueEntry.objects.filter(message_id=message.pk, tenant_id=message.tenant_id).first()


def batch_of(message: Message) -> Batch | None:
    """Return the batch of a message."""
    return Batch.objects.filter(pk=message.batch_id).first()


def api_batch(stream: str) -> Batch | None:
    """Return the API batch of a stream of the tenant in scope, or None before its first message."""
    return Batch.objects.filter(kind=Batch.Kind.API, stream=stream).first()


@dataclass(frozen=True, slots=True)
class Standing:
    """What decides over a request to send: who asks, as whom, and who wants no mail of theirs."""

    tenant: Tenant  # of the fields in `_TENANT_FIELDS`
    domain_id: uuid.UUID | None  # the verified domain that covers the sender
    batch_id: uuid.UUID | None  # the API batch of the stream, once there is one
    refusals: dict[str, str]  # suppressed addresses (normalised) with the reason


_TENANT_FIELDS: Final = ("id", "slug", "status", "postal_address", "weight")
# One look: a request waits for each round trip, and all of these are needed by every request.
_STANDING: Final = """
SELECT tenant.id, tenant.slug, tenant.status, tenant.postal_address, tenant.weight,
    (SELECT domain.id FROM deliverability_domain domain
     WHERE domain.tenant_id = %(tenant)s AND domain.name = ANY(%(domains)s)
       AND domain.status = %(verified)s
     ORDER BY length(domain.name) DESC LIMIT 1),
    (SELECT batch.id FROM sending_batch batch
     WHERE batch.tenant_id = %(tenant)s AND batch.kind = %(kind)s AND batch.stream = %(stream)s),
    (SELECT array_agg(ARRAY[refused.email_norm, refused.reason])
     FROM sending_suppression refused
     WHERE refused.tenant_id = %(tenant)s AND refused.email_norm = ANY(%(emails)s)
       AND refused.scope = ANY(%(scopes)s))
FROM tenants_tenant tenant WHERE tenant.id = %(tenant)s
"""


def standing_of(*, sender: str, stream: str, emails: Collection[str]) -> Standing:
    """Return how the tenant in scope stands with mail from `sender` to `emails` (normalised)."""
    scopes = [Suppression.Scope.ALL]
    if stream == Stream.BROADCAST:
        scopes.append(Suppression.Scope.BROADCAST)
    with connection.cursor() as cursor:
        cursor.execute(
            _STANDING,
            {
                "tenant": current_tenant_id(),
                "domains": covering_names(sender),
                "verified": Domain.Status.VERIFIED,
                "kind": Batch.Kind.API,
                "stream": stream,
                "emails": list(emails),
                "scopes": scopes,
            },
        )
        row = cursor.fetchone()
    if row is None:
        raise Tenant.DoesNotExist
    *tenant, domain_id, batch_id, refused = row
    return Standing(
        tenant=Tenant.from_db(connection.alias, _TENANT_FIELDS, tenant),
        domain_id=domain_id,
        batch_id=batch_id,
        refusals=dict(refused or ()),
    )


# --- the states of content ---


def pending_compile(source: ContentSource, *, footer: bool) -> dict[str, Any]:
    """Return what `MessageContent.compiled` holds until a worker has compiled it."""
    return {
        "source": {
            "kind": source.kind,
            "body": source.body,
            "subject": source.subject,
            "text_body": source.text_body,
            "preview_text": source.preview_text,
        },
        "footer": footer,
    }


def compiled_of(content: MessageContent) -> CompiledContent | None:
    """Return the compiled form, or None while it is pending or when it cannot be compiled."""
    if "source" in content.compiled:
        return None
    return CompiledContent.from_json(json.dumps(content.compiled))


def subject_of(content: MessageContent) -> str:
    """Return the subject as it was written, Liquid and all, in every state."""
    holder = content.compiled.get("source", content.compiled)
    return str(holder.get("subject", ""))


def filled_subject(message: Message, content: MessageContent) -> str:
    """Return the subject as the recipient reads it; as it was written where it cannot be filled."""
    context = RenderContext(variables=message.filling, now=message.created_at)
    try:
        compiled = compiled_of(content)
        if compiled is not None:
            return Renderer(compiled).subject(variables_of(context), context)
    except (ContentError, ValueError):  # values that fail, a form of another version
        pass
    return subject_of(content)
