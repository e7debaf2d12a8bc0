"""What readers do with a message: opens, clicks, unsubscribing. Each is an event; unique counts and
top links are kept beside the log.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from dataclasses import dataclass

from django.utils import timezone

from esp.lib.errors import NotFound
from sending.audience.engagement import note_engagement
from sending.audience.models import Subscription
from sending.audience.services import unsubscribe
from sending.content.errors import ContentError
from sending.content.render import Renderer
from sending.content.types import CompiledContent, RenderContext, Rendered
from sending.events.models import EventKind
from sending.events.services import (
    StatKey,
    add_counts,
    count_link_click,
    hour_of,
    record_facts,
)
from sending.messages.models import Message, MessageContent
from sending.messages.reader_facts import fact_of, suppress_marketing, unsubscribe_recipient
from sending.tracking.clients import is_machine
from tenants.directory.models import Tenant


@dataclass(frozen=True, slots=True)
class Client:
    """Who fetched: the user agent and the method; never more than the report needs."""

    user_agent: str
    method: str = "GET"


def message_of(message_id: uuid.UUID) -> Message:
    """Return the message of the tenant in scope; raises NotFound."""
    message = Message.objects.filter(pk=message_id).first()
    if message is None:
        raise NotFound("This message is gone.")
    return message


def content_of(message: Message) -> CompiledContent:
    """Return what the message was made from; raises NotFound when it is gone."""
    content = MessageContent.objects.filter(pk=message.content_id).first()
    if content is None or "source" in content.compiled:
        raise NotFound("The content of this message is gone.")
    try:
        return CompiledContent.from_json(json.dumps(content.compiled))
    except (ValueError, LookupError, TypeError) as error:  # of an older version of the product
        raise NotFound("The content of this message cannot be read any more.") from error


def _count_unique(message: Message, kind: str, at: dt.datetime) -> None:
    key = StatKey(message.tenant_id, message.batch_id, hour_of(at), message.known_site, kind)
    add_counts({key: 1})


def record_open(message: Message, client: Client) -> None:
    """Record that the pixel was fetched."""
    now = timezone.now()
    machine = is_machine(
        client.user_agent, delivered_at=message.final_at, at=now, method=client.method
    )
    record_facts(
        [
            fact_of(
                message,
                EventKind.OPENED,
                now,
                is_machine=machine,
                detail={"user_agent": client.user_agent[:200]},
            )
        ]
    )
    _mark_open(message, now, machine=machine)


def _mark_open(message: Message, now: dt.datetime, *, machine: bool) -> None:
    if not machine and message.contact_id is not None:
        note_engagement(message.contact_id, now)
    field = "machine_opened_at" if machine else "opened_at"
    first = Message.objects.filter(pk=message.pk, **{f"{field}__isnull": True}).update(
        **{field: now}
    )
    if first:
        _count_unique(message, "machine_opened_unique" if machine else "opened_unique", now)


def record_click(message: Message, index: int, client: Client) -> str:
    """Record a click and return where it leads; raises NotFound for a link that leads nowhere.

    A person who clicks has read the mail, pixel or not: the click counts as an open as well.
    """
    now = timezone.now()
    url = link_target(message, index)
    machine = is_machine(
        client.user_agent, delivered_at=message.final_at, at=now, method=client.method
    )
    detail = {"url": url[:1000], "link": index, "user_agent": client.user_agent[:200]}
    record_facts([fact_of(message, EventKind.CLICKED, now, is_machine=machine, detail=detail)])
    if not machine:
        first = Message.objects.filter(pk=message.pk, clicked_at=None).update(clicked_at=now)
        if first:
            _count_unique(message, "clicked_unique", now)
        _mark_open(message, now, machine=False)
        count_link_click(
            tenant_id=message.tenant_id,
            batch_id=message.batch_id,
            link_index=index,
            url=_link_source(message, index),
            is_first=bool(first),
        )
    return url


def _link_source(message: Message, index: int) -> str:
    """Return the link as it stands in the content: one line of the report for all recipients."""
    return content_of(message).links[index].url


def link_target(message: Message, index: int) -> str:
    """Return where link `index` leads for the message's recipient; raises NotFound."""
    renderer = Renderer(content_of(message))
    try:
        return renderer.link_target(index, _context(message))
    except ContentError as error:
        raise NotFound("This link leads nowhere.") from error


def _context(
    message: Message, *, unsubscribe_url: str = "", preferences_url: str = "", view_url: str = ""
) -> RenderContext:
    tenant = Tenant.objects.get(pk=message.tenant_id)
    return RenderContext(
        variables=message.filling,
        postal_address=tenant.postal_address,
        now=message.created_at,
        unsubscribe_url=unsubscribe_url,
        preferences_url=preferences_url,
        view_url=view_url,
    )


def view_in_browser(message: Message, *, unsubscribe_url: str, preferences_url: str) -> Rendered:
    """Return the message as its recipient got it, with plain links and without pixel."""
    context = _context(
        message, unsubscribe_url=unsubscribe_url, preferences_url=preferences_url, view_url="#"
    )
    return Renderer(content_of(message)).render(context)


def unsubscribe_from_everything(message: Message) -> None:
    """Take the recipient off the message's lists and off all marketing mail."""
    unsubscribe_recipient(message, method="page")
    suppress_marketing(message, method="page")


def subscriptions_of_recipient(message: Message) -> list[Subscription]:
    """Return what the recipient is subscribed to, for the preferences page."""
    if message.contact_id is None:
        return []
    rows = Subscription.objects.filter(
        contact_id=message.contact_id, contact_list__archived_at=None
    ).exclude(status=Subscription.Status.UNCONFIRMED)
    return list(rows.select_related("contact_list").order_by("contact_list__name"))


def leave_lists(message: Message, keep: set[uuid.UUID]) -> int:
    """Unsubscribe the recipient from every list that is not in `keep`; return from how many."""
    leaving = [
        row.contact_list_id
        for row in subscriptions_of_recipient(message)
        if row.status == Subscription.Status.SUBSCRIBED and row.contact_list_id not in keep
    ]
    if leaving and message.contact_id:
        unsubscribe(
            tenant_id=message.tenant_id,
            contact_id=message.contact_id,
            list_ids=leaving,
            source="message:preferences",
        )
    return len(leaving)
