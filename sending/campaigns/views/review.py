"""The review before sending, and the steps that it opens: send, schedule."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from esp.lib.errors import Conflict, InvalidInput
from sending.campaigns import services
from sending.campaigns.access import access_campaign
from sending.campaigns.models import Campaign
from sending.campaigns.review import funnel_of, review_campaign
from tenants.directory.gate import MemberRequest, member_page


@member_page(needs="campaigns:read")
@require_safe
def campaign_review(request: MemberRequest, campaign_id: str) -> HttpResponse:
    """Who gets it, who does not and why, and what forbids sending."""
    campaign = access_campaign(request.actor, campaign_id)
    if campaign.status != Campaign.Status.DRAFT:
        return redirect("campaigns-detail", campaign_id=campaign.public_id)
    return _page(request, campaign)


def _page(
    request: MemberRequest, campaign: Campaign, *, problem: str = "", status: int = 200
) -> HttpResponse:
    review = review_campaign(campaign)
    context = {
        "campaign": campaign,
        "review": review,
        "funnel": funnel_of(review.audience),
        "problem": problem,
    }
    template = "sending/campaigns/review.html"
    if request.htmx and not request.htmx.boosted:  # type: ignore[attr-defined]
        template += "#findings"
    return render(request, template, context, status=status)


def _reviewed(request: MemberRequest, campaign_id: str) -> Campaign:
    """Return the campaign in the version that the person has reviewed."""
    campaign = access_campaign(request.actor, campaign_id, needs="campaigns:send")
    try:
        campaign.version = int(request.POST.get("version", ""))
    except ValueError as error:
        raise InvalidInput("Open the review again; it does not say what it shows.") from error
    return campaign


@member_page(needs="campaigns:send")
@require_POST
def campaign_send(request: MemberRequest, campaign_id: str) -> HttpResponse:
    """Start the campaign that was reviewed; the server runs every check again."""
    campaign = _reviewed(request, campaign_id)
    try:
        services.send_campaign(actor=request.actor, campaign=campaign)
    except (Conflict, InvalidInput) as error:
        return _refused(request, campaign_id, error)
    return redirect("campaigns-detail", campaign_id=campaign.public_id)


@member_page(needs="campaigns:send")
@require_POST
def campaign_schedule(request: MemberRequest, campaign_id: str) -> HttpResponse:
    """Let the campaign start at the time that its card says."""
    campaign = _reviewed(request, campaign_id)
    try:
        if campaign.scheduled_at is None:
            raise InvalidInput("Choose date and time on the card “Schedule and tracking”.")
        services.schedule_campaign(actor=request.actor, campaign=campaign, at=campaign.scheduled_at)
    except (Conflict, InvalidInput) as error:
        return _refused(request, campaign_id, error)
    messages.success(request, "The campaign is scheduled.")
    return redirect("campaigns-detail", campaign_id=campaign.public_id)


def _refused(
    request: MemberRequest, campaign_id: str, error: Conflict | InvalidInput
) -> HttpResponse:
    """Show the review again with the sentence, or where the campaign stands by now."""
    status = 409 if isinstance(error, Conflict) else 422
    campaign = access_campaign(request.actor, campaign_id)
    if campaign.status == Campaign.Status.DRAFT:
        return _page(request, campaign, problem=error.message, status=status)
    context = {"campaign": campaign, "error": error}
    return render(request, "sending/campaigns/conflict.html", context, status=status)
