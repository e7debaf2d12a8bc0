"""Pages for visitors: a hosted form, and the confirmation that its mail leads to."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from esp.kit.client import client_ip
from esp.kit.forms import add_domain_error
from esp.kit.pages import status_of
from esp.lib.errors import DomainError
from sending.audience.forms import PublicForm
from sending.audience.services import signup
from sending.audience.types import Consent
from tenants.directory.gate import public_page
from tenants.directory.models import Tenant
from tenants.scoping.context import scope


def _consent(request: HttpRequest, text: str) -> Consent:
    return Consent(
        text=text,
        ip_address=client_ip(request),
        user_agent=request.headers.get("User-Agent", ""),
    )


# Nobody is signed in here, so there is nothing that a foreign page could misuse, and the form may
# be posted from a tenant's own site.
@csrf_exempt
@public_page
@require_http_methods(["GET", "HEAD", "POST"])
def hosted_form(request: HttpRequest, address: str) -> HttpResponse:
    """Show the form; take a wish. The answer never tells whether the address is known."""
    item = signup.hosted_form(address)
    with scope(item.tenant_id):
        tenant = Tenant.objects.get(pk=item.tenant_id)
    form = PublicForm(request.POST or None)
    context = {"item": item, "tenant": tenant, "form": form}
    if request.method != "POST" or not form.is_valid():
        status = 422 if form.errors else 200
        return render(request, "sending/audience/public_form.html", context, status=status)
    data = form.cleaned_data
    if not data["website"]:  # who fills the trap in is thanked, and forgotten
        try:
            signup.sign_up(
                form=item,
                email=data["email"],
                first_name=data["first_name"] if item.asks_name else "",
                last_name=data["last_name"] if item.asks_name else "",
                consent=_consent(request, item.consent_text),
            )
        except DomainError as error:
            add_domain_error(form, error)
            return render(
                request, "sending/audience/public_form.html", context, status=status_of(error)
            )
    return render(request, "sending/audience/public_thanks.html", context)


@csrf_exempt
@public_page
@require_http_methods(["GET", "HEAD", "POST"])
def confirm(request: HttpRequest, token: str) -> HttpResponse:
    """Ask for one press (mail scanners follow links by GET), then subscribe."""
    if request.method != "POST":
        signup.read_confirmation(token)
        return render(request, "sending/audience/public_confirm.html", {"token": token})
    done = signup.confirm_by_token(token=token, consent=_consent(request, ""))
    context = {"list": done.contact_list}
    return render(request, "sending/audience/public_confirmed.html", context)
