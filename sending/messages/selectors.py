"""Reads of messages, batches and their content."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from django.db.models import Q
from django.utils import timezone

from esp.kit.paging import Page, newest_by_keys
from sending.audience.models import Suppression
from sending.content.types import CompiledContent, ContentSource
from sending.messages.finding import MessageFilter, find_keys
from sending.messages.models import Batch, Message, MessageContent, QueueEntry, Stream
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


def refusals_for(emails: Iterable[str], *, stream: str) -> dict[str, str]:
    """Return {address: reason} for suppressed addresses (normalised) of the tenant in scope."""
    scopes = [Suppression.Scope.ALL]
    if stream == Stream.BROADCAST:
        scopes.append(Suppression.Scope.BROADCAST)
    rows = Suppression.objects.filter(Q(email_norm__in=list(emails)), scope__in=scopes).values_list(
        "email_norm", "reason"
    )
    return dict(rows)


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
