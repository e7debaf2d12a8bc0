"""The public door for providers' reports.

The address has a part that cannot be guessed, and what a provider signs is checked on top. What is
answered with 200 is committed; what a report means is found out later, by a worker.
"""

from __future__ import annotations

import logging

from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from esp.kit.client import client_ip
from esp.kit.valkey import take
from sending.feedback.provider_reports import store_reports
from sending.routes.models import RouteWebhook
from sending.routes.selectors import webhook_at, webhook_url
from sending.routes.services import hook_secrets, note_call, note_refusal
from sending.routes.webhooks.calls import MAX_BYTES, read_call
from sending.routes.webhooks.types import BadCall
from tenants.directory.gate import public_page

log = logging.getLogger(__name__)

# Calls a second of one webhook. Most providers make one for each event and try again after a 429.
RATE, BURST = 200, 2000


@public_page
@never_cache
@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
def provider_reports(request: HttpRequest, route_id: str, token: str) -> HttpResponse:
    """Take a provider's reports on messages that it got by one route.

    200 also for messages that we do not know (they are counted): a provider would try again for
    days, and switch the webhook off in the end. GET and HEAD are how some try an address.
    """
    hook = webhook_at(route_id, token)
    if hook is None:
        return _answer(404, "There is nothing at this address.")
    if request.method != "POST":
        return _answer(200, "Reports are taken here, by POST.")
    bucket = take(f"rate:route-reports:{hook.pk.hex}", rate=RATE, burst=BURST)
    if not bucket.allowed:
        answer = _answer(429, f"More than {RATE} calls a second.")
        answer["Retry-After"] = str(max(1, round(bucket.retry_after)))
        return answer
    try:
        stored = _take(request, hook)
    except BadCall as error:
        return _refuse(request, hook, error)
    return _answer(200, f"Taken: {stored} new.")


def _take(request: HttpRequest, hook: RouteWebhook) -> int:
    """Store what a call reports; return how many reports were new. Raises BadCall."""
    # Without a declared length nothing is read, so this bounds what is.
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdigit() or int(length) > MAX_BYTES:
        raise BadCall(413, f"A call may have {MAX_BYTES // 1024 // 1024} MB.")
    proof = hook_secrets(hook)
    content = read_call(
        str(hook.route.options.get("provider", "")),
        request,
        basic_auth=proof.get("basic_auth", ""),
        key=proof.get("key", "") or str(hook.options.get("topic_arn", "")),
        url=webhook_url(hook),
    )
    stored = store_reports(hook.pk, content.reports)
    note_call(hook, reports=stored)
    return stored


def _refuse(request: HttpRequest, hook: RouteWebhook, error: BadCall) -> HttpResponse:
    log.warning(
        "a call of the webhook of the route %s from %s was refused (%d): %s",
        hook.route.name, client_ip(request), error.status, error,
    )  # fmt: skip
    note_refusal(hook, str(error))
    if error.status == 403 and _wants_login(request, hook):
        # Amazon SNS sends user and password only when it is asked for them.
        answer = _answer(401, str(error))
        answer["WWW-Authenticate"] = 'Basic realm="reports"'
        return answer
    return _answer(error.status, str(error))


def _wants_login(request: HttpRequest, hook: RouteWebhook) -> bool:
    return "basic_auth" in hook_secrets(hook) and "Authorization" not in request.headers


def _answer(status: int, text: str) -> HttpResponse:
    answer = HttpResponse(f"{text}\n", status=status, content_type="text/plain; charset=utf-8")
    # Django would log the path of what is refused, and with it the address that nobody may know.
    answer._has_been_logged = True  # type: ignore[attr-defined]  # noqa: SLF001
    return answer
