"""Demo mode: read what the simulated mailboxes hold, and publish records in the simulated DNS.

The mailboxes are open to everybody who reaches a site in demo mode, signed in or not: they are the
simulated world outside, where password mails arrive too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from deliverability.domains.access import access_domain
from deliverability.domains.services import check_domain
from deliverability.rehearsal.services import publish_records, simulator
from esp.simulator.client import SimulatorRefused, SimulatorUnreachable
from tenants.directory.gate import MemberRequest, member_page, public_page

_FRAME_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "sandbox allow-popups allow-popups-to-escape-sandbox"
)


def _reads_simulator(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    @wraps(view)
    def guarded(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except SimulatorUnreachable:
            return render(request, "deliverability/rehearsal/away.html", status=503)
        except SimulatorRefused as error:
            raise Http404 from error

    return guarded


@public_page
@require_safe
@_reads_simulator
def mailboxes(request: HttpRequest) -> HttpResponse:
    """The mailboxes that hold mail."""
    query = request.GET.get("q", "").strip()
    number = request.GET.get("page", "1")
    page = simulator().mailboxes(q=query, page=int(number) if number.isdecimal() else 1)
    context = {"page": page, "query": query}
    return render(request, "deliverability/rehearsal/mailboxes.html", context)


@public_page
@require_safe
@_reads_simulator
def mailbox(request: HttpRequest, address: str) -> HttpResponse:
    """The messages of one mailbox."""
    context = {"address": address, "mails": simulator().messages(address)}
    return render(request, "deliverability/rehearsal/mailbox.html", context)


@public_page
@require_safe
@_reads_simulator
def mail(request: HttpRequest, mail_id: int) -> HttpResponse:
    """One message: rendered, its text, its source, and what the receiver verified."""
    stored = simulator().message(mail_id)
    context = {"mail": stored, "raw": stored.raw.decode("utf-8", "replace")}
    return render(request, "deliverability/rehearsal/mail.html", context)


@public_page
@require_safe
@_reads_simulator
def mail_html(request: HttpRequest, mail_id: int) -> HttpResponse:
    """The HTML part for the frame of the mail's page; nothing in it may run or be fetched."""
    html = simulator().message(mail_id).html or ""
    return HttpResponse(html, headers={"Content-Security-Policy": _FRAME_POLICY})


@member_page(needs="domains:write")
@require_POST
def publish(request: MemberRequest, domain_id: str) -> HttpResponse:
    """Publish a domain's records in the simulated DNS and check them at once."""
    domain = access_domain(request.actor, domain_id, needs="domains:write")
    count = publish_records(actor=request.actor, domain=domain)
    check_domain(actor=request.actor, domain=domain)
    messages.success(request, f"{count} records are published in the simulated DNS.")
    return redirect("domains-detail", domain_id=domain.public_id)
