"""Pages of sending domains and senders."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from deliverability.domains import services
from deliverability.domains.access import access_domain, access_sender
from deliverability.domains.forms import DomainForm, SenderForm
from deliverability.domains.models import DnsCheck, Domain
from deliverability.domains.records import expected_records
from deliverability.domains.selectors import domains_of_tenant, senders_of_tenant
from esp.kit.forms import add_domain_error
from esp.lib.errors import DomainError
from tenants.directory.gate import MemberRequest, member_page


@member_page(needs="domains:read")
@require_safe
def domain_list(request: MemberRequest) -> HttpResponse:
    """The tenant's domains."""
    context = {"domains": domains_of_tenant()}
    return render(request, "deliverability/domains/list.html", context)


@member_page(needs="domains:write")
@require_http_methods(["GET", "HEAD", "POST"])
def domain_add(request: MemberRequest) -> HttpResponse:
    """Add a domain, then show what to publish."""
    form = DomainForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            domain = services.add_domain(actor=request.actor, name=form.cleaned_data["name"])
            return redirect("domains-detail", domain_id=domain.public_id)
        except DomainError as error:
            add_domain_error(form, error)
    status = 422 if form.errors else 200
    return render(request, "deliverability/domains/add.html", {"form": form}, status=status)


@member_page(needs="domains:read")
@require_safe
def domain_detail(request: MemberRequest, domain_id: str) -> HttpResponse:
    """The records to publish, and what DNS said of each at the latest check."""
    domain = access_domain(request.actor, domain_id)
    return render(request, "deliverability/domains/detail.html", _detail(domain))


def _detail(domain: Domain) -> dict[str, object]:
    checks = {check.kind: check for check in DnsCheck.objects.filter(domain=domain)}
    rows = [
        {"record": expected, "check": checks.get(expected.kind)}
        for expected in expected_records(domain)
    ]
    return {"domain": domain, "rows": rows, "can_publish": settings.DEMO}


@member_page(needs="domains:write")
@require_POST
def domain_check(request: MemberRequest, domain_id: str) -> HttpResponse:
    """Look the records up now."""
    domain = access_domain(request.actor, domain_id, needs="domains:write")
    findings = services.check_domain(actor=request.actor, domain=domain)
    missing = sum(1 for finding in findings if finding.record.is_required and not finding.is_ok)
    if missing == 0:
        messages.success(request, f"{domain.name} is verified and may send.")
    else:
        plural = "record is" if missing == 1 else "records are"
        messages.warning(request, f"{missing} required {plural} not there yet.")
    return redirect("domains-detail", domain_id=domain.public_id)


@member_page(needs="domains:write")
@require_POST
def domain_remove(request: MemberRequest, domain_id: str) -> HttpResponse:
    """Remove a domain."""
    domain = access_domain(request.actor, domain_id, needs="domains:write")
    services.remove_domain(actor=request.actor, domain=domain)
    messages.success(request, f"{domain.name} is removed.")
    return redirect("domains-list")


@member_page(needs="domains:read")
@require_safe
def sender_list(request: MemberRequest) -> HttpResponse:
    """The tenant's From addresses."""
    context = {"senders": senders_of_tenant()}
    return render(request, "deliverability/domains/senders.html", context)


@member_page(needs="domains:write")
@require_http_methods(["GET", "HEAD", "POST"])
def sender_add(request: MemberRequest) -> HttpResponse:
    """Add a From address."""
    form = SenderForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            services.add_sender(actor=request.actor, **form.cleaned_data)
            messages.success(request, "The sender is ready to use.")
            return redirect("senders-list")
        except DomainError as error:
            add_domain_error(form, error)
    status = 422 if form.errors else 200
    return render(request, "deliverability/domains/sender_add.html", {"form": form}, status=status)


@member_page(needs="domains:write")
@require_POST
def sender_remove(request: MemberRequest, sender_id: str) -> HttpResponse:
    """Remove a From address."""
    sender = access_sender(request.actor, sender_id, needs="domains:write")
    services.remove_sender(actor=request.actor, sender=sender)
    messages.success(request, f"{sender.email} is removed.")
    return redirect("senders-list")
