"""The operator's doors to source IPs, pools and nodes."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from deliverability.ips import services
from deliverability.ips.access import access_address, access_pool
from deliverability.ips.forms import AddressEditForm, AddressForm, CapForm, PoolForm, RuleForm
from deliverability.ips.models import IpAddress
from deliverability.ips.nodes import dead_before
from deliverability.ips.selectors import (
    caps_of,
    domains_of,
    is_known_node,
    nodes_with_addresses,
    pools_with_addresses,
)
from deliverability.ips.ways import overflow_gaps, take_picture
from esp.kit.forms import add_domain_error
from esp.kit.pages import status_of
from esp.lib.errors import DomainError
from tenants.accounts.models import User
from tenants.directory.access import access_tenant
from tenants.directory.gate import operator_page


def _operator(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # the gate has let an operator in
    return request.user


def _form_page(request: HttpRequest, form: forms.Form, **context: Any) -> HttpResponse:
    status = 422 if form.errors else 200
    context["form"] = form
    return render(request, "deliverability/ips/form.html", context, status=status)


def _bound(request: HttpRequest) -> Any:
    return request.POST if request.method == "POST" else None


def _warn_of_unknown_node(request: HttpRequest, row: IpAddress) -> None:
    if row.node and not is_known_node(row.node):
        messages.warning(
            request,
            f"No node called {row.node} has given a sign of life: until one does, "
            f"nothing leaves from {row.address}.",
        )


def _today() -> dt.date:
    return timezone.now().astimezone(dt.UTC).date()


@operator_page
@require_GET
def ips_list(request: HttpRequest) -> HttpResponse:
    """Show pools and their addresses."""
    context = {
        "pools": pools_with_addresses(_today()),
        "gaps": overflow_gaps(take_picture()),
    }
    return render(request, "deliverability/ips/list.html", context)


@operator_page
@require_http_methods(["GET", "POST"])
def create_pool(request: HttpRequest) -> HttpResponse:
    """Make a pool."""
    form = PoolForm(_bound(request), initial={"purpose": "any", "kind": "shared"})
    if form.is_bound and form.is_valid():
        try:
            services.create_pool(operator=_operator(request), fields=form.fields_in())
        except DomainError as error:
            add_domain_error(form, error)
        else:
            messages.success(request, "The pool is made.")
            return redirect("operator-ips")
    return _form_page(request, form, heading="New pool", button="Create the pool")


@operator_page
@require_http_methods(["GET", "POST"])
def edit_pool(request: HttpRequest, pool_id: str) -> HttpResponse:
    """Change a pool."""
    operator = _operator(request)
    pool = access_pool(operator, pool_id)
    name = pool.name
    initial = {
        "name": name,
        "purpose": pool.purpose,
        "kind": pool.kind,
        "overflow_pool": pool.overflow_pool.name if pool.overflow_pool else "",
        "overflow_when": pool.overflow_when,
    }
    form = PoolForm(_bound(request), initial=initial)
    if form.is_bound and form.is_valid():
        try:
            services.update_pool(operator=operator, pool=pool, fields=form.fields_in())
        except DomainError as error:
            add_domain_error(form, error)
        else:
            messages.success(request, "The pool is saved.")
            return redirect("operator-ips")
    return _form_page(request, form, heading=f"Pool {name}", button="Save", pool=pool)


@operator_page
@require_POST
def remove_pool(request: HttpRequest, pool_id: str) -> HttpResponse:
    """Remove an empty pool."""
    operator = _operator(request)
    pool = access_pool(operator, pool_id)
    services.remove_pool(operator=operator, pool=pool)
    messages.success(request, f"The pool {pool.name} is removed.")
    return redirect("operator-ips")


@operator_page
@require_http_methods(["GET", "POST"])
def add_address(request: HttpRequest) -> HttpResponse:
    """Add a source IP."""
    initial = {"pool": request.GET.get("pool", ""), "node": request.GET.get("node", "")}
    form = AddressForm(_bound(request), initial=initial)
    if form.is_bound and form.is_valid():
        try:
            row = services.add_address(
                operator=_operator(request),
                address=form.cleaned_data["address"],
                fields=form.fields_in(),
            )
        except DomainError as error:
            add_domain_error(form, error)
        else:
            messages.success(request, "The address is added.")
            _warn_of_unknown_node(request, row)
            return redirect("operator-ips")
    return _form_page(request, form, heading="New source IP", button="Add the address")


@operator_page
@require_http_methods(["GET", "POST"])
def edit_address(request: HttpRequest, address_id: str) -> HttpResponse:
    """Change, drain, quarantine or switch off a source IP."""
    operator = _operator(request)
    row = access_address(operator, address_id)
    names = ("ehlo_name", "status", "status_reason", "weight", "node", "place")
    initial = {name: getattr(row, name) for name in names} | {"pool": row.pool.name}
    form = AddressEditForm(_bound(request), initial=initial)
    if form.is_bound and form.is_valid():
        try:
            services.update_address(operator=operator, row=row, fields=form.fields_in())
        except DomainError as error:
            add_domain_error(form, error)
        else:
            messages.success(request, f"{row.address} is saved.")
            _warn_of_unknown_node(request, row)
            return redirect("operator-ips")
    return _address_page(request, row, form=form)


def _address_page(
    request: HttpRequest,
    row: IpAddress,
    *,
    form: AddressEditForm,
    cap_form: CapForm | None = None,
) -> HttpResponse:
    cap_form = cap_form or CapForm()
    status = 422 if form.errors or cap_form.errors else 200
    context = {"row": row, "form": form, "cap_form": cap_form, "caps": caps_of(row, _today())}
    return render(request, "deliverability/ips/address.html", context, status=status)


@operator_page
@require_POST
def remove_address(request: HttpRequest, address_id: str) -> HttpResponse:
    """Remove an address that is off."""
    operator = _operator(request)
    row = access_address(operator, address_id)
    services.remove_address(operator=operator, row=row)
    messages.success(request, f"{row.address} is removed.")
    return redirect("operator-ips")


@operator_page
@require_POST
def check_ptr(request: HttpRequest, address_id: str) -> HttpResponse:
    """Look up an address's name in DNS now."""
    operator = _operator(request)
    row = access_address(operator, address_id)
    finding = services.check_ptr(operator=operator, row=row)
    if finding.problem:
        messages.warning(request, finding.problem)
    else:
        messages.success(request, f"{row.address} and {row.ehlo_name} lead to each other.")
    return redirect("operator-ip", address_id=row.public_id)


@operator_page
@require_POST
def set_cap(request: HttpRequest, address_id: str) -> HttpResponse:
    """Cap what an address sends on a day."""
    operator = _operator(request)
    row = access_address(operator, address_id)
    form = CapForm(request.POST)
    if form.is_valid():
        try:
            services.set_cap(operator=operator, row=row, **form.cleaned_data)
        except DomainError as error:
            add_domain_error(form, error)
        else:
            messages.success(request, "The cap is set.")
            return redirect("operator-ip", address_id=row.public_id)
    names = ("ehlo_name", "status", "status_reason", "weight", "node", "place")
    initial = {name: getattr(row, name) for name in names} | {"pool": row.pool.name}
    return _address_page(request, row, form=AddressEditForm(initial=initial), cap_form=form)


@operator_page
@require_POST
def clear_cap(request: HttpRequest, address_id: str, cap_id: int) -> HttpResponse:
    """Take a cap away."""
    operator = _operator(request)
    row = access_address(operator, address_id)
    services.clear_cap(operator=operator, row=row, cap_id=cap_id)
    messages.success(request, "The cap is gone.")
    return redirect("operator-ip", address_id=row.public_id)


@operator_page
@require_GET
def nodes_list(request: HttpRequest) -> HttpResponse:
    """Show the hosts that deliver: alive or not, and which addresses are theirs."""
    context = {"nodes": nodes_with_addresses(), "dead_before": dead_before(timezone.now())}
    return render(request, "deliverability/ips/nodes.html", context)


@operator_page
@require_POST
def change_node(request: HttpRequest, name: str, verb: str) -> HttpResponse:
    """Drain a node, let it send again, or take it off the list."""
    change, said = {
        "drain": (services.drain_node, "takes no new mail"),
        "resume": (services.resume_node, "sends again"),
        "forget": (services.forget_node, "is off the list"),
    }[verb]
    change(operator=_operator(request), name=name)
    messages.success(request, f"The node {name} {said}.")
    return redirect("operator-nodes")


@operator_page
@require_POST
def assign_pool(request: HttpRequest, tenant_id: str) -> HttpResponse:
    """Choose the pool of a tenant's stream."""
    operator = _operator(request)
    tenant = access_tenant(operator, tenant_id)
    form = RuleForm(request.POST, domains=domains_of(tenant.pk))
    heading = f"IP pool of {tenant.name}"
    if not form.is_valid():
        return _form_page(request, form, heading=heading, button="Assign")
    try:
        services.assign_pool(
            operator=operator,
            tenant=tenant,
            stream=form.cleaned_data["stream"],
            pool=form.cleaned_data["pool"],
            domain_id=form.cleaned_data["domain"],
        )
    except DomainError as error:
        add_domain_error(form, error)
        response = _form_page(request, form, heading=heading, button="Assign")
        response.status_code = status_of(error)
        return response
    messages.success(request, "The pool is assigned.")
    return redirect("operator-tenant", tenant_id=tenant_id)
