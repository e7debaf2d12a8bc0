"""The operator's doors to tenants. Who is no operator finds nothing here."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from deliverability.ips.forms import RuleForm
from esp.console.selectors import view_of
from esp.kit.forms import add_domain_error
from esp.kit.pages import status_of
from esp.kit.paging import newest_first
from esp.lib.errors import DomainError
from tenants.accounts.models import User
from tenants.directory import services
from tenants.directory.access import access_tenant
from tenants.directory.forms import SuspendForm, TenantForm, WeightForm
from tenants.directory.gate import operator_page
from tenants.directory.models import Tenant
from tenants.directory.selectors import tenants_for_operator


def _operator(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # the gate has let an operator in
    return request.user


@operator_page
@require_GET
def tenants_list(request: HttpRequest) -> HttpResponse:
    """Show the tenants, newest first, by name and status."""
    search = request.GET.get("q", "").replace("\x00", "").strip()
    status = request.GET.get("status", "")
    status = status if status in Tenant.Status.values else ""
    page = newest_first(
        tenants_for_operator(search=search, status=status),
        after=request.GET.get("after"),
        before=request.GET.get("before"),
    )
    context = {"page": page, "q": search, "status": status, "statuses": Tenant.Status.choices}
    return render(request, "tenants/operator/tenants.html", context)


@operator_page
@require_http_methods(["GET", "POST"])
def create_tenant(request: HttpRequest) -> HttpResponse:
    """Make a tenant and invite its owner."""
    form = TenantForm(request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        try:
            tenant = services.create_tenant(operator=_operator(request), **form.cleaned_data)
        except DomainError as error:
            if error.field == "email":
                error.field = "owner_email"
            add_domain_error(form, error)
        else:
            messages.success(request, f"{tenant.name} is made, and its owner is invited.")
            return redirect("operator-tenant", tenant_id=tenant.public_id)
    status = 422 if form.errors else 200
    return render(request, "tenants/operator/tenant_form.html", {"form": form}, status=status)


@operator_page
@require_GET
def inspect_tenant(request: HttpRequest, tenant_id: str) -> HttpResponse:
    """Show one tenant; the look stands in its audit log."""
    operator = _operator(request)
    tenant = access_tenant(operator, tenant_id)
    services.note_operator_view(operator=operator, tenant=tenant)
    return _tenant_page(request, tenant, SuspendForm())


def _tenant_page(
    request: HttpRequest,
    tenant: Tenant,
    form: SuspendForm,
    *,
    weight_form: WeightForm | None = None,
    status: int = 200,
) -> HttpResponse:
    view = view_of(tenant)
    context = {
        "it": tenant,
        "view": view,
        "form": form,
        "rule_form": RuleForm(domains=[(row.pk, row.name) for row in view.domains]),
        "weight_form": weight_form or WeightForm(initial={"weight": tenant.weight}),
    }
    return render(request, "tenants/operator/tenant.html", context, status=status)


@operator_page
@require_POST
def suspend(request: HttpRequest, tenant_id: str) -> HttpResponse:
    """Stop a tenant's sending."""
    operator = _operator(request)
    tenant = access_tenant(operator, tenant_id)
    form = SuspendForm(request.POST)
    if not form.is_valid():
        return _tenant_page(request, tenant, form, status=422)
    try:
        services.suspend_tenant(
            operator=operator, tenant=tenant, reason=form.cleaned_data["reason"]
        )
    except DomainError as error:
        add_domain_error(form, error)
        return _tenant_page(request, tenant, form, status=status_of(error))
    messages.success(request, f"{tenant.name} is suspended: nothing leaves.")
    return redirect("operator-tenant", tenant_id=tenant_id)


@operator_page
@require_POST
def unsuspend(request: HttpRequest, tenant_id: str) -> HttpResponse:
    """Let a tenant send again."""
    operator = _operator(request)
    tenant = access_tenant(operator, tenant_id)
    services.unsuspend_tenant(operator=operator, tenant=tenant)
    messages.success(request, f"{tenant.name} may send again.")
    return redirect("operator-tenant", tenant_id=tenant_id)


@operator_page
@require_POST
def set_weight(request: HttpRequest, tenant_id: str) -> HttpResponse:
    """Set a tenant's share of pools that it uses with others."""
    operator = _operator(request)
    tenant = access_tenant(operator, tenant_id)
    form = WeightForm(request.POST)
    if not form.is_valid():
        return _tenant_page(request, tenant, SuspendForm(), weight_form=form, status=422)
    services.set_weight(operator=operator, tenant=tenant, weight=form.cleaned_data["weight"])
    messages.success(request, f"The weight of {tenant.name} is saved.")
    return redirect("operator-tenant", tenant_id=tenant_id)
