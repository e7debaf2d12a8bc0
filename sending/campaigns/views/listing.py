"""The list of campaigns, and what is done to whole campaigns: create, duplicate, delete."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from esp.kit.forms import add_domain_error
from esp.lib.errors import DomainError
from sending.campaigns import services
from sending.campaigns.access import access_campaign
from sending.campaigns.forms import NameForm
from sending.campaigns.report import rows_of
from sending.campaigns.selectors import TABS, campaigns_page, tab_counts
from tenants.directory.gate import MemberRequest, member_page


@member_page(needs="campaigns:read")
@require_safe
def campaign_list(request: MemberRequest) -> HttpResponse:
    """The tenant's campaigns, by tab, with their key numbers."""
    tab = request.GET.get("show", "all")
    tab = tab if tab in TABS else "all"
    page = campaigns_page(tab, after=request.GET.get("after"), before=request.GET.get("before"))
    counts = tab_counts()
    context = {
        "tab": tab,
        "tabs": [(key, label, counts[key]) for key, (label, _) in TABS.items()],
        "page": page,
        "rows": rows_of(page.rows),
        "has_any": counts["all"] > 0,
    }
    return render(request, "sending/campaigns/list.html", context)


@member_page(needs="campaigns:write")
@require_http_methods(["GET", "HEAD", "POST"])
def campaign_add(request: MemberRequest) -> HttpResponse:
    """Name a campaign, then edit it."""
    form = NameForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            made = services.create_campaign(actor=request.actor, name=form.cleaned_data["name"])
            return redirect("campaigns-edit", campaign_id=made.public_id)
        except DomainError as error:
            add_domain_error(form, error)
    status = 422 if form.errors else 200
    return render(request, "sending/campaigns/add.html", {"form": form}, status=status)


@member_page(needs="campaigns:write")
@require_POST
def campaign_duplicate(request: MemberRequest, campaign_id: str) -> HttpResponse:
    """Make a draft with the same content."""
    campaign = access_campaign(request.actor, campaign_id, needs="campaigns:write")
    copy = services.duplicate_campaign(actor=request.actor, campaign=campaign)
    messages.success(request, "This is the copy. Nothing is sent until you say so.")
    return redirect("campaigns-edit", campaign_id=copy.public_id)


@member_page(needs="campaigns:write")
@require_POST
def campaign_delete(request: MemberRequest, campaign_id: str) -> HttpResponse:
    """Delete a draft."""
    campaign = access_campaign(request.actor, campaign_id, needs="campaigns:write")
    services.delete_draft(actor=request.actor, campaign=campaign)
    messages.success(request, f"“{campaign.name}” is deleted.")
    return redirect("campaigns-list")
