"""The operators' doors to routes, sets and rules."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from esp.kit.forms import add_domain_error
from esp.lib.errors import DomainError
from sending.routes import services
from sending.routes.access import access_route, access_route_set
from sending.routes.forms import (
    ChoiceForm,
    DirectForm,
    ProviderForm,
    RouteForm,
    RouteSetForm,
    SmarthostForm,
    provider_named,
)
from sending.routes.models import Route
from sending.routes.options import missing_package
from sending.routes.providers import PROVIDERS
from sending.routes.selectors import (
    WINDOW,
    defaults_by_stream,
    route_rules_of,
    routes_with_sets,
    sets_with_members,
    totals_since,
    webhook_of,
    webhook_url,
)
from sending.routes.services.sets import STREAMS
from sending.routes.types import Totals
from sending.routes.webhooks.catalogue import WEBHOOKS
from tenants.accounts.models import User
from tenants.directory.access import access_tenant
from tenants.directory.gate import operator_page


def _operator(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # the gate has let an operator in
    return request.user


def _bound(request: HttpRequest) -> Any:
    return request.POST if request.method == "POST" else None


def _page(request: HttpRequest, name: str, form: forms.Form, **context: Any) -> HttpResponse:
    status = 422 if form.errors else 200
    return render(request, f"sending/routes/{name}.html", {"form": form, **context}, status=status)


def _rests(route: Route) -> bool:
    return route.rests_until is not None and route.rests_until > timezone.now()


# --- routes ---


@operator_page
@require_GET
def routes_list(request: HttpRequest) -> HttpResponse:
    """Show routes with their health and what they did in the last minutes."""
    now = timezone.now()
    totals = totals_since(now - WINDOW)
    rows = [
        {
            "route": route,
            "totals": totals.get(route.pk, Totals()),
            "rests": route.rests_until is not None and route.rests_until > now,
            "provider": PROVIDERS.get(str(route.options.get("provider", ""))),
        }
        for route in routes_with_sets()
    ]
    context = {"rows": rows, "minutes": int(WINDOW.total_seconds() // 60)}
    return render(request, "sending/routes/list.html", context)


@operator_page
@require_GET
def choose_kind(request: HttpRequest) -> HttpResponse:
    """Show what can be a route."""
    choices = [(provider, missing_package(provider)) for provider in PROVIDERS.values()]
    has_direct = Route.objects.filter(kind=Route.Kind.DIRECT).exists()
    return render(
        request, "sending/routes/choose.html", {"providers": choices, "has_direct": has_direct}
    )


def _form(request: HttpRequest, kind: str, route: Route | None) -> tuple[str, RouteForm] | None:
    """Return the kind of route that an address names, and its form."""
    initial = {**route.options, "status": route.status} if route is not None else {}
    if kind == Route.Kind.DIRECT:
        return kind, DirectForm(_bound(request), initial=initial, route=route)
    if kind == Route.Kind.SMARTHOST:
        return kind, SmarthostForm(_bound(request), initial=initial or None, route=route)
    provider = provider_named(kind)
    if provider is None:
        return None
    form = ProviderForm(_bound(request), initial=initial, route=route, provider=provider)
    return Route.Kind.HTTP, form


@operator_page
@require_http_methods(["GET", "POST"])
def create_route(request: HttpRequest, kind: str) -> HttpResponse:
    """Make a route; `kind` is "direct", "smarthost" or a provider's name."""
    found = _form(request, kind, None)
    if found is None:
        raise Http404
    route_kind, form = found
    if form.is_bound and form.is_valid():
        try:
            route = services.save_route(
                operator=_operator(request),
                route=None,
                kind=route_kind,
                name=form.cleaned_data["name"],
                status=form.cleaned_data["status"],
                given=form.given,
            )
        except DomainError as error:
            add_domain_error(form, error)
        else:
            messages.success(request, f"The route {route.name} is added.")
            return redirect("operator-route", route_id=route.public_id)
    provider = PROVIDERS.get(kind)
    title = provider.title if provider else Route.Kind(kind).label
    return _page(request, "form", form, heading=f"New route: {title}", button="Add the route",
                 provider=provider)  # fmt: skip


@operator_page
@require_http_methods(["GET", "POST"])
def edit_route(request: HttpRequest, route_id: str) -> HttpResponse:
    """Show and change a route."""
    operator = _operator(request)
    route = access_route(operator, route_id)
    provider = PROVIDERS.get(str(route.options.get("provider", "")))
    found = _form(request, provider.name if provider else route.kind, route)
    if found is None:  # its provider is gone from the list
        raise Http404
    _, form = found
    if form.is_bound and form.is_valid():
        try:
            services.save_route(
                operator=operator,
                route=route,
                kind=route.kind,
                name=route.name,
                status=form.cleaned_data["status"],
                given=form.given,
            )
        except DomainError as error:
            add_domain_error(form, error)
        else:
            messages.success(request, f"The route {route.name} is saved.")
            return redirect("operator-route", route_id=route_id)
    hook = webhook_of(route)
    return _page(request, "form", form, heading=f"Route {route.name}", button="Save",
                 route=route, provider=provider, rests=_rests(route), hook=hook,
                 webhook_kind=WEBHOOKS.get(provider.name) if provider else None,
                 hook_url=webhook_url(hook) if hook else "")  # fmt: skip


@operator_page
@require_POST
def test_route(request: HttpRequest, route_id: str) -> HttpResponse:
    """Connect and log in, and show the steps; no message is sent."""
    route = access_route(_operator(request), route_id)
    found = services.test_route(operator=_operator(request), route=route)
    route.refresh_from_db()
    context = {"route": route, "probe": found, "rests": _rests(route)}
    return render(request, "sending/routes/test.html", context)


@operator_page
@require_POST
def remove_route(request: HttpRequest, route_id: str) -> HttpResponse:
    """Remove a route that is in no set."""
    operator = _operator(request)
    route = access_route(operator, route_id)
    services.remove_route(operator=operator, route=route)
    messages.success(request, f"The route {route.name} is removed.")
    return redirect("operator-routes")


# --- sets ---


@operator_page
@require_GET
def sets_list(request: HttpRequest) -> HttpResponse:
    """Show sets with their routes, and the defaults of the streams."""
    chosen = defaults_by_stream()
    defaults = [
        {
            "stream": stream,
            "label": label,
            "form": ChoiceForm(
                initial={"stream": stream, "route_set": chosen.get(stream)},
                auto_id=f"id_{stream}_%s",
            ),
        }
        for stream, label in STREAMS.items()
    ]
    context = {"sets": sets_with_members(), "defaults": defaults, "labels": STREAMS}
    return render(request, "sending/routes/sets.html", context)


@operator_page
@require_http_methods(["GET", "POST"])
def create_set(request: HttpRequest) -> HttpResponse:
    """Make a set."""
    form = RouteSetForm(_bound(request))
    if form.is_bound and form.is_valid():
        try:
            services.save_route_set(
                operator=_operator(request),
                route_set=None,
                name=form.cleaned_data["name"],
                strategy=form.cleaned_data["strategy"],
                places=form.places,
            )
        except DomainError as error:
            add_domain_error(form, error)
        else:
            messages.success(request, "The set is made.")
            return redirect("operator-route-sets")
    return _page(request, "set_form", form, heading="New route set", button="Create the set")


@operator_page
@require_http_methods(["GET", "POST"])
def edit_set(request: HttpRequest, set_id: str) -> HttpResponse:
    """Change a set."""
    operator = _operator(request)
    found = access_route_set(operator, set_id)
    initial = {"name": found.name, "strategy": found.strategy}
    form = RouteSetForm(_bound(request), initial=initial, route_set=found)
    if form.is_bound and form.is_valid():
        try:
            services.save_route_set(
                operator=operator,
                route_set=found,
                name=form.cleaned_data["name"],
                strategy=form.cleaned_data["strategy"],
                places=form.places,
            )
        except DomainError as error:
            add_domain_error(form, error)
        else:
            messages.success(request, "The set is saved.")
            return redirect("operator-route-sets")
    return _page(request, "set_form", form, heading=f"Route set {found.name}", button="Save",
                 route_set=found)  # fmt: skip


@operator_page
@require_POST
def remove_set(request: HttpRequest, set_id: str) -> HttpResponse:
    """Remove a set that nobody uses."""
    operator = _operator(request)
    found = access_route_set(operator, set_id)
    services.remove_route_set(operator=operator, route_set=found)
    messages.success(request, f"The set {found.name} is removed.")
    return redirect("operator-route-sets")


@operator_page
@require_POST
def set_default(request: HttpRequest) -> HttpResponse:
    """Choose the set of a stream."""
    form = ChoiceForm(request.POST)
    if not form.is_valid():
        return _page(request, "choice_form", form, heading="Default of a stream", button="Save",
                     back="operator-route-sets")  # fmt: skip
    services.set_default_route(operator=_operator(request), **form.cleaned_data)
    messages.success(request, "The default is saved.")
    return redirect("operator-route-sets")


@operator_page
@require_http_methods(["GET", "POST"])
def tenant_routes(request: HttpRequest, tenant_id: str) -> HttpResponse:
    """Show and choose the sets of one tenant's streams."""
    operator = _operator(request)
    tenant = access_tenant(operator, tenant_id)
    form = ChoiceForm(_bound(request))
    if form.is_bound and form.is_valid():
        try:
            services.assign_route_set(operator=operator, tenant=tenant, **form.cleaned_data)
        except DomainError as error:
            add_domain_error(form, error)
        else:
            messages.success(request, "The rule is saved.")
            return redirect("operator-tenant-routes", tenant_id=tenant_id)
    rules = [(STREAMS.get(rule.stream, rule.stream), rule.route_set)
             for rule in route_rules_of(tenant.pk)]  # fmt: skip
    return _page(request, "tenant", form, tenant=tenant, rules=rules)
