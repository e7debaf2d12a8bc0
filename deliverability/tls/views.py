"""The operator's doors to TLS."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from deliverability.tls import services
from deliverability.tls.forms import RequirementForm
from deliverability.tls.selectors import failures_by_kind, requirements, results_by_domain
from esp.kit.forms import add_domain_error
from esp.lib.errors import DomainError
from tenants.accounts.models import User
from tenants.directory.gate import operator_page


def _operator(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # the gate has let an operator in
    return request.user


@operator_page
@require_http_methods(["GET", "POST"])
def tls_page(request: HttpRequest) -> HttpResponse:
    """Show how sessions fared and which domains need verified TLS; add one."""
    form = RequirementForm(request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        try:
            row = services.require_tls(operator=_operator(request), **form.cleaned_data)
        except DomainError as error:
            add_domain_error(form, error)
        else:
            messages.success(request, f"Mail to {row.domain} now needs verified TLS.")
            return redirect("operator-tls")
    context = {
        "form": form,
        "requirements": requirements(),
        "results": results_by_domain(),
        "failures": failures_by_kind(),
    }
    status = 422 if form.errors else 200
    return render(request, "deliverability/tls/page.html", context, status=status)


@operator_page
@require_POST
def release(request: HttpRequest, domain: str) -> HttpResponse:
    """Take a domain off the list."""
    services.release_tls(operator=_operator(request), domain=domain)
    messages.success(request, f"Mail to {domain} follows the domain’s own policy again.")
    return redirect("operator-tls")
