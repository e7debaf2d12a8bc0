"""The message log under Developers, and the reference of the API."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from esp.kit.paging import Page
from esp.lib.addresses import parse_address
from sending.engine.classify import title
from sending.events.timeline import timeline_of
from sending.messages.access import access_message
from sending.messages.forms import MessageFilterForm
from sending.messages.models import Message
from sending.messages.reference import reference
from sending.messages.selectors import (
    batch_of,
    content_of,
    filled_subject,
    messages_for_recipient,
    messages_page,
    queue_entry_of,
)
from sending.messages.waiting import explanation_of, wait_of
from tenants.directory.actor import Actor
from tenants.scoping.gate import member_page

PAGE_SIZE = 50


@require_safe
@member_page(needs="messages:read")
def messages_list(request: HttpRequest) -> HttpResponse:
    """Show the log, newest first; htmx gets the rows alone."""
    form = MessageFilterForm(request.GET)
    if form.is_valid():
        page = messages_page(
            form.chosen(),
            after=request.GET.get("after"),
            before=request.GET.get("before"),
            size=PAGE_SIZE,
        )
    else:
        page = Page[Message](rows=[], next_cursor=None, previous_cursor=None)
    template = "sending/messages/list.html"
    if request.htmx and not request.htmx.boosted:  # type: ignore[attr-defined]
        template += "#rows"
    return render(request, template, {"form": form, "page": page})


@require_safe
@member_page(needs="messages:read")
def message_page(request: HttpRequest, message_id: str) -> HttpResponse:
    """Show one message, its state in plain words and everything that happened to it."""
    actor: Actor = request.actor  # type: ignore[attr-defined]
    message = access_message(actor, message_id)
    content = content_of(message)
    entry, batch = queue_entry_of(message), batch_of(message)
    wait = wait_of(message, entry, batch)
    context = {
        "message": message,
        "content": content,
        "subject": filled_subject(message, content) if content else "",
        "entry": entry,
        "explanation": explanation_of(message, entry, batch, wait=wait),
        "wait": wait,
        "is_said": wait is not None and any(message.last_reply in x.text for x in wait.causes),
        "class_title": title(message.bounce_class) if message.bounce_class else "",
        "timeline": timeline_of(message.pk),
        "is_final": message.status in Message.FINAL,
    }
    template = "sending/messages/message.html"
    if request.htmx and not request.htmx.boosted:  # type: ignore[attr-defined]
        template += "#state"
    return render(request, template, context)


@require_safe
@member_page(needs="messages:read")
def for_recipient(request: HttpRequest) -> HttpResponse:
    """Return a part for other pages: the newest messages to the address in `email`."""
    email = parse_address(request.GET.get("email", ""), allow_display=False).normalised
    return render(
        request,
        "sending/messages/for_recipient.html",
        {"rows": messages_for_recipient(email), "email": email},
    )


@require_safe
@member_page(needs=None)
def api_reference(request: HttpRequest) -> HttpResponse:
    """Show the reference of the API inside the site."""
    context = {"groups": reference(), "base": settings.SITE_URL}
    return render(request, "sending/messages/api_reference.html", context)
