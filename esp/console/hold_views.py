"""The operator's doors to holds, and the tenant's view of what holds its mail."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from deliverability.holds import services
from deliverability.holds.access import access_hold
from esp.console.hold_forms import HoldForm
from esp.console.hold_rows import action_rows, holds_of, holds_of_all, named_batches
from esp.kit.forms import add_domain_error
from esp.kit.pages import status_of
from esp.kit.paging import newest_first
from esp.lib.errors import DomainError, InvalidInput
from esp.lib.ids import from_public
from sending.campaigns.models import Campaign
from sending.lanes.selectors import actions_for_tenant
from tenants.accounts.models import User
from tenants.directory.access import access_tenant, find_tenant
from tenants.directory.gate import MemberRequest, member_page, operator_page
from tenants.directory.models import Tenant
from tenants.scoping.context import scope


def _operator(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # the gate has let an operator in
    return request.user


@operator_page
@require_http_methods(["GET", "POST"])
def holds(request: HttpRequest) -> HttpResponse:
    """Show the holds in force, and place one."""
    initial = {"tenant": request.GET.get("tenant", "")[:40]}
    form = HoldForm(request.POST) if request.method == "POST" else HoldForm(initial=initial)
    status = 200
    if form.is_bound:
        status = 422
        try:
            if form.is_valid():
                what = _place(_operator(request), form)
                messages.success(request, f"{what} is held: every worker follows in ten seconds.")
                return redirect("operator-holds")
        except DomainError as error:
            add_domain_error(form, error)
            status = status_of(error)
    context = {"form": form, "rows": holds_of_all()}
    return render(request, "deliverability/holds/list.html", context, status=status)


def _place(operator: User, form: HoldForm) -> str:
    """Place the hold; return what of whom it is on."""
    values = form.cleaned_data
    tenant = find_tenant(operator, values["tenant"], field="tenant")
    campaign = _campaign_of(tenant, values["campaign"].strip())
    services.place_hold(
        operator=operator,
        tenant=tenant,
        reason=values["reason"],
        batch_id=campaign.batch_id if campaign else None,
        batch_name=campaign.name if campaign else "",
        stream=values["stream"],
        until=form.until(),
    )
    return f"“{campaign.name}” of {tenant.name}" if campaign else f"{tenant.name}’s mail"


def _campaign_of(tenant: Tenant, campaign_id: str) -> Campaign | None:
    if not campaign_id:
        return None
    try:
        with scope(tenant.pk):
            found = Campaign.objects.get(pk=from_public("cmp", campaign_id))
    except (ValueError, Campaign.DoesNotExist) as error:
        text = "This tenant has no campaign with this id."
        raise InvalidInput(text, field="campaign") from error
    if found.batch_id is None:
        raise InvalidInput("This campaign has not been started.", field="campaign")
    return found


@operator_page
@require_POST
def lift(request: HttpRequest, tenant_id: str, hold_id: str) -> HttpResponse:
    """End a hold."""
    operator = _operator(request)
    tenant = access_tenant(operator, tenant_id)
    hold = access_hold(operator, tenant, hold_id)
    batch = named_batches(tenant.pk, [hold.batch_ref]).get(hold.batch_ref)
    name = batch.name if batch else ""
    services.lift_hold(operator=operator, hold=hold, batch_name=name)
    what = f"“{name}”" if name else "mail"
    messages.success(request, f"The hold is lifted: {what} of {tenant.name} goes on.")
    return redirect("operator-holds")


@member_page(needs="messages:read")
@require_safe
def held_list(request: MemberRequest) -> HttpResponse:
    """Show a tenant what holds its mail, and what providers' replies have called for."""
    tenant = Tenant.objects.get(pk=request.actor.tenant_id)
    page = newest_first(
        actions_for_tenant(tenant.pk),
        after=request.GET.get("after"),
        before=request.GET.get("before"),
    )
    context = {
        "rows": holds_of(tenant),
        "page": page,
        "actions": action_rows(tenant.pk, page.rows),
        "may_open_campaigns": request.actor.may("campaigns:read"),
    }
    return render(request, "deliverability/holds/mine.html", context)
