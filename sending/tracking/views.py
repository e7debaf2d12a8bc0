"""Public addresses in messages: pixel, links, unsubscribing, preferences, view in browser.

The token says tenant, message and meaning under a MAC; nothing else in the address is believed.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseRedirectBase
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_safe

from esp.kit.keys import accepted_keys
from esp.lib.errors import NotFound
from esp.lib.tokens import BadToken, TrackKind, TrackToken
from sending.messages.models import Message
from sending.messages.reader_facts import unsubscribe_recipient
from sending.tracking import services
from tenants.directory.gate import public_page
from tenants.directory.models import Tenant
from tenants.scoping.context import scope

# The smallest GIF: one transparent pixel (GIF89a).
_PIXEL = bytes.fromhex(
    "47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b"
)


class TrackedRedirect(HttpResponseRedirectBase):
    """A redirect to an address that stands in the tenant's own content."""

    status_code = 302
    allowed_schemes = ["http", "https"]


@contextmanager
def _message(text: str, kind: TrackKind) -> Iterator[tuple[Message, TrackToken]]:
    """Open the scope of the token's tenant and yield the message; a forged token is a 404."""
    try:
        token = TrackToken.unpack(accepted_keys("tracking"), text)
    except BadToken as error:
        raise Http404 from error
    if token.kind != kind:
        raise Http404
    with scope(token.tenant_id):
        try:
            yield services.message_of(token.message_id), token
        except NotFound as error:
            raise Http404 from error


def _client(request: HttpRequest) -> services.Client:
    return services.Client(request.headers.get("User-Agent", ""), request.method or "GET")


@public_page
@never_cache
@require_safe
def open_pixel(request: HttpRequest, token: str) -> HttpResponse:
    """Serve the pixel. It is served for a forged token as well, so that no mail looks broken."""
    try:
        with _message(token.removesuffix(".gif"), TrackKind.OPEN) as (message, _):
            services.record_open(message, _client(request))
    except Http404:
        pass
    return HttpResponse(_PIXEL, content_type="image/gif")


@public_page
@never_cache
@require_safe
def click(request: HttpRequest, token: str) -> HttpResponse:
    """Record a click and redirect to the link's target in the content."""
    with _message(token, TrackKind.CLICK) as (message, parsed):
        url = services.record_click(message, parsed.link_index, _client(request))
    return TrackedRedirect(url)


@public_page
@never_cache
@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
def unsubscribe(request: HttpRequest, token: str) -> HttpResponse:
    """One click by POST (RFC 8058), or a page with a button for people.

    GET changes nothing: gateways follow every link in a mail. The POST needs no CSRF token, since
    mail clients send it without cookies; the token in the address is the right to do it.
    """
    with _message(token, TrackKind.UNSUBSCRIBE) as (message, _):
        tenant = Tenant.objects.get(pk=message.tenant_id)
        context = {"recipient": message.recipient, "sender": tenant.name, "token": token}
        if request.method != "POST":
            return render(request, "sending/tracking/unsubscribe.html", context)
        if request.POST.get("List-Unsubscribe") == "One-Click":
            unsubscribe_recipient(message, method="one_click")
            return HttpResponse("Unsubscribed.\n", content_type="text/plain")
        if request.POST.get("scope") == "all":
            services.unsubscribe_from_everything(message)
        else:
            unsubscribe_recipient(message, method="page")
        return render(request, "sending/tracking/unsubscribed.html", context)


@public_page
@never_cache
@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
def preferences(request: HttpRequest, token: str) -> HttpResponse:
    """Let the recipient choose which lists to stay on. Joining a list takes the list's own form."""
    with _message(token, TrackKind.PREFERENCES) as (message, _):
        tenant = Tenant.objects.get(pk=message.tenant_id)
        saved = request.method == "POST"
        if saved and request.POST.get("scope") == "all":
            services.unsubscribe_from_everything(message)
        elif saved:
            services.leave_lists(message, _chosen(request))
        context = {
            "recipient": message.recipient,
            "sender": tenant.name,
            "subscriptions": services.subscriptions_of_recipient(message),
            "saved": saved,
        }
        return render(request, "sending/tracking/preferences.html", context)


def _chosen(request: HttpRequest) -> set[uuid.UUID]:
    chosen = set()
    for text in request.POST.getlist("lists"):
        try:
            chosen.add(uuid.UUID(text))
        except ValueError:
            continue  # a forged value keeps nothing
    return chosen


@public_page
@never_cache
@require_safe
def view_in_browser(request: HttpRequest, token: str) -> HttpResponse:
    """Show the message as a page, in a frame that may run nothing."""
    with _message(token, TrackKind.VIEW) as (message, parsed):
        key = accepted_keys("tracking")[0]

        def url(kind: TrackKind, letter: str) -> str:
            return f"/t/{letter}/{TrackToken(parsed.tenant_id, message.pk, kind).pack(key)}"

        rendered = services.view_in_browser(
            message,
            unsubscribe_url=url(TrackKind.UNSUBSCRIBE, "u"),
            preferences_url=url(TrackKind.PREFERENCES, "p"),
        )
    if rendered.html is None:
        return HttpResponse(rendered.text, content_type="text/plain; charset=utf-8")
    return HttpResponse(
        rendered.html,
        headers={
            "Content-Security-Policy": (
                "default-src 'none'; img-src * data:; style-src 'unsafe-inline'; "
                "font-src *; sandbox allow-popups allow-top-navigation-by-user-activation"
            )
        },
    )
