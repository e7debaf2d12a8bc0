"""Reports: the comparison of campaigns, one campaign's numbers, its recipients as CSV."""

from __future__ import annotations

from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.utils.text import slugify
from django.views.decorators.http import require_safe

from esp.lib.errors import NotFound
from sending.campaigns.access import access_campaign
from sending.campaigns.export import recipient_lines
from sending.campaigns.models import Campaign
from sending.campaigns.report import (
    bounce_rows,
    curve_points,
    left_out_rows,
    progress_of,
    progress_parts,
    report_of,
    sum_of,
    totals_for,
)
from sending.campaigns.selectors import contacts_to_preview, reported_page
from tenants.directory.gate import MemberRequest, member_page
from tenants.directory.models import Tenant


@member_page(needs="reports:read")
@require_safe
def report_list(request: MemberRequest) -> HttpResponse:
    """The campaigns that were started, side by side."""
    page = reported_page(after=request.GET.get("after"), before=request.GET.get("before"))
    totals = totals_for(page.rows)
    context = {
        "page": page,
        "rows": [{"campaign": one, "totals": totals[one.pk]} for one in page.rows],
        "sums": sum_of(totals.values()),
    }
    return render(request, "sending/campaigns/reports.html", context)


@member_page(needs="reports:read")
@require_safe
def report_detail(request: MemberRequest, campaign_id: str) -> HttpResponse:
    """One campaign's report."""
    campaign = access_campaign(request.actor, campaign_id, needs="reports:read")
    if campaign.batch_id is None:
        return redirect("campaigns-detail", campaign_id=campaign.public_id)
    report = report_of(campaign)
    progress = progress_of(campaign)
    zone = Tenant.objects.get(pk=request.actor.tenant_id).timezone or "UTC"
    context = {
        "campaign": campaign,
        "report": report,
        "totals": report.totals,
        "parts": progress_parts(progress),
        "bounces": bounce_rows(report),
        "curve": curve_points(campaign, report, zone),
        "left_out": left_out_rows(campaign),
        "is_over": campaign.status in {Campaign.Status.SENT, Campaign.Status.CANCELLED},
        "list_names": ", ".join(campaign.lists.order_by("name").values_list("name", flat=True)),
        "contacts": contacts_to_preview(campaign),
    }
    return render(request, "sending/campaigns/report.html", context)


@member_page(needs="reports:read")
@require_safe
def report_export(request: MemberRequest, campaign_id: str) -> StreamingHttpResponse:
    """Every recipient and what became of it, as CSV."""
    campaign = access_campaign(request.actor, campaign_id, needs="reports:read")
    if campaign.batch_id is None:
        raise NotFound("This campaign has no recipients yet.")
    response = StreamingHttpResponse(
        recipient_lines(tenant_id=campaign.tenant_id, batch_id=campaign.batch_id),
        content_type="text/csv; charset=utf-8",
    )
    name = slugify(campaign.name)[:60] or "campaign"
    response["Content-Disposition"] = f'attachment; filename="{name}-recipients.csv"'
    return response
