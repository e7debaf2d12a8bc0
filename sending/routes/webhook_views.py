"""The operators' doors to a route's webhook: its address and keys."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from esp.kit.forms import add_domain_error
from esp.lib.errors import DomainError
from sending.routes import services
from sending.routes.access import access_route
from sending.routes.forms import WebhookForm
from sending.routes.providers import PROVIDERS
from sending.routes.selectors import webhook_of, webhook_url
from sending.routes.webhooks.catalogue import WEBHOOKS
from tenants.accounts.models import User
from tenants.directory.gate import operator_page


@operator_page
@require_POST
def renew_webhook(request: HttpRequest, route_id: str) -> HttpResponse:
    """Give a route the address for its provider's reports, or a new one."""
    assert isinstance(request.user, User)  # the gate has let an operator in
    route = access_route(request.user, route_id)
    services.renew_webhook(operator=request.user, route=route)
    messages.success(request, "The address is made. Set it up at the provider.")
    return redirect("operator-route-webhook", route_id=route_id)


@operator_page
@require_http_methods(["GET", "POST"])
def edit_webhook(request: HttpRequest, route_id: str) -> HttpResponse:
    """Show the address, how to set it up, what came; change what calls are proven with."""
    assert isinstance(request.user, User)
    route = access_route(request.user, route_id)
    provider = PROVIDERS.get(str(route.options.get("provider", "")))
    kind = WEBHOOKS.get(provider.name) if provider else None
    hook = webhook_of(route)
    if kind is None or hook is None:
        raise Http404
    form = WebhookForm(
        request.POST if request.method == "POST" else None,
        initial=hook.options,
        key=kind.key,
        kept=set(services.hook_secrets(hook)),
    )
    if form.is_bound and form.is_valid():
        try:
            services.save_webhook(
                operator=request.user,
                hook=hook,
                given=form.cleaned_data,
                forget=bool(form.cleaned_data.get("forget")),
            )
        except DomainError as error:
            add_domain_error(form, error)
        else:
            messages.success(request, "Saved.")
            return redirect("operator-route-webhook", route_id=route_id)
    context = {
        "form": form,
        "route": route,
        "provider": provider,
        "kind": kind,
        "hook": hook,
        "hook_url": webhook_url(hook),
        "is_signed": kind.always_signed or "key" in services.hook_secrets(hook),
    }
    status = 422 if form.errors else 200
    return render(request, "sending/routes/webhook.html", context, status=status)
