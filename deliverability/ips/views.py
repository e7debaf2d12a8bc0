"""The operator's doors to source IPs and pools."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from deliverability.ips import services
from deliverability.ips.access import access_address, access_pool
from deliverability.ips.forms import AddressEditForm, AddressForm, PoolForm, RuleForm
from deliverability.ips.selectors import pools_with_addresses
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


@operator_page
@require_GET
def ips_list(request: HttpRequest) -> HttpResponse:
    """Show pools and their addresses."""
    return render(request, "deliverability/ips/list.html", {"pools": pools_with_addresses()})


@operator_page
@require_http_methods(["GET", "POST"])
def create_pool(request: HttpRequest) -> HttpResponse:
    """Make a pool."""
    form = PoolForm(_bound(request), initial={"purpose": "any", "is_shared": True})
    if form.is_bound and form.is_valid():
        try:
            services.create_pool(operator=_operator(request), **form.cleaned_data)
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
    initial = {"name": pool.name, "purpose": pool.purpose, "is_shared": pool.is_shared}
    form = PoolForm(_bound(request), initial=initial)
    if form.is_bound and form.is_valid():
        try:
            services.update_pool(operator=operator, pool=pool, **form.cleaned_data)
        except DomainError as error:
            add_domain_error(form, error)
        else:
            messages.success(request, "The pool is saved.")
            return redirect("operator-ips")
    return _form_page(request, form, heading=f"Pool {pool.name}", button="Save", pool=pool)


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
    form = AddressForm(_bound(request), initial={"pool": request.GET.get("pool", "")})
    if form.is_bound and form.is_valid():
        try:
            services.add_address(operator=_operator(request), **form.cleaned_data)
        except DomainError as error:
            add_domain_error(form, error)
        else:
            messages.success(request, "The address is added.")
            return redirect("operator-ips")
    return _form_page(request, form, heading="New source IP", button="Add the address")


@operator_page
@require_http_methods(["GET", "POST"])
def edit_address(request: HttpRequest, address_id: str) -> HttpResponse:
    """Change, drain or switch off a source IP."""
    operator = _operator(request)
    row = access_address(operator, address_id)
    initial = {"ehlo_name": row.ehlo_name, "pool": row.pool.name, "status": row.status}
    form = AddressEditForm(_bound(request), initial=initial)
    if form.is_bound and form.is_valid():
        try:
            services.update_address(operator=operator, row=row, **form.cleaned_data)
        except DomainError as error:
            add_domain_error(form, error)
        else:
            messages.success(request, f"{row.address} is saved.")
            return redirect("operator-ips")
    return _form_page(request, form, heading=f"Source IP {row.address}", button="Save")


@operator_page
@require_POST
def assign_pool(request: HttpRequest, tenant_id: str) -> HttpResponse:
    """Choose the pool of a tenant's stream."""
    operator = _operator(request)
    tenant = access_tenant(operator, tenant_id)
    form = RuleForm(request.POST)
    if not form.is_valid():
        heading = f"IP pool of {tenant.name}"
        return _form_page(request, form, heading=heading, button="Assign")
    try:
        services.assign_pool(operator=operator, tenant=tenant, **form.cleaned_data)
    except DomainError as error:
        add_domain_error(form, error)
        response = _form_page(request, form, heading=f"IP pool of {tenant.name}", button="Assign")
        response.status_code = status_of(error)
        return response
    messages.success(request, "The pool is assigned.")
    return redirect("operator-tenant", tenant_id=tenant_id)
