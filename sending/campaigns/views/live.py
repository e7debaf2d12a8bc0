"""The page of a campaign that is scheduled or on its way, and its switches."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from esp.lib.errors import Conflict
from sending.campaigns import services
from sending.campaigns.access import access_campaign
from sending.campaigns.models import Campaign
from sending.campaigns.report import progress_of, progress_parts, time_left
from sending.messages.backpressure import why_full
from sending.messages.batch_waiting import waits_of
from sending.messages.models import Stream
from tenants.directory.gate import MemberRequest, member_page

_STATUS = Campaign.Status
LIVE = frozenset({_STATUS.SCHEDULED, _STATUS.PREPARING, _STATUS.SENDING, _STATUS.PAUSED})


@member_page(needs="campaigns:read")
@require_safe
def campaign_detail(request: MemberRequest, campaign_id: str) -> HttpResponse:
    """Where the campaign stands. A draft has its editor, what is over its report."""
    campaign = access_campaign(request.actor, campaign_id)
    is_part = request.htmx and not request.htmx.boosted  # type: ignore[attr-defined]
    if campaign.status == _STATUS.DRAFT:
        may_write = request.actor.may("campaigns:write")
        name = "campaigns-edit" if may_write else "campaigns-review"
        return redirect(name, campaign_id=campaign.public_id)
    if campaign.status not in LIVE and campaign.batch_id and not is_part:
        return redirect("reports-detail", campaign_id=campaign.public_id)
    progress = progress_of(campaign)
    context = {
        "campaign": campaign,
        "progress": progress,
        "parts": progress_parts(progress),
        "time_left": time_left(
            progress.seconds_left if campaign.status != _STATUS.PAUSED else None
        ),
        "is_live": campaign.status in LIVE,
        "queue_full": why_full(Stream.BROADCAST) if campaign.status == _STATUS.PREPARING else "",
        "list_names": ", ".join(campaign.lists.order_by("name").values_list("name", flat=True)),
    }
    template = "sending/campaigns/live.html" + ("#live" if is_part else "")
    return render(request, template, context)


@member_page(needs="campaigns:read")
@require_safe
def campaign_waiting(request: MemberRequest, campaign_id: str) -> HttpResponse:
    """Return the part that says why the rest waits; it asks for itself again."""
    campaign = access_campaign(request.actor, campaign_id)
    now = timezone.now()
    groups = waits_of(campaign.batch, now=now) if campaign.batch is not None else []
    is_live = campaign.status in LIVE
    context = {"campaign": campaign, "groups": groups, "is_live": is_live, "now": now}
    return render(request, "sending/campaigns/waiting.html", context)


def _switch(
    request: MemberRequest, campaign_id: str, service: Callable[..., None], done: str
) -> HttpResponse:
    campaign = access_campaign(request.actor, campaign_id, needs="campaigns:send")
    try:
        service(actor=request.actor, campaign=campaign)
        messages.success(request, done)
    except Conflict as error:
        fresh = access_campaign(request.actor, campaign_id)
        context = {"campaign": fresh, "error": error}
        return render(request, "sending/campaigns/conflict.html", context, status=409)
    return redirect("campaigns-detail", campaign_id=campaign.public_id)


@member_page(needs="campaigns:send")
@require_POST
def campaign_pause(request: MemberRequest, campaign_id: str) -> HttpResponse:
    """Stop sending for now."""
    return _switch(request, campaign_id, services.pause_campaign, "The campaign is paused.")


@member_page(needs="campaigns:send")
@require_POST
def campaign_resume(request: MemberRequest, campaign_id: str) -> HttpResponse:
    """Go on."""
    return _switch(request, campaign_id, services.resume_campaign, "The campaign goes on.")


@member_page(needs="campaigns:send")
@require_POST
def campaign_cancel(request: MemberRequest, campaign_id: str) -> HttpResponse:
    """End it; what has not left never will."""
    return _switch(request, campaign_id, services.cancel_campaign, "The campaign is cancelled.")


@member_page(needs="campaigns:send")
@require_POST
def campaign_unschedule(request: MemberRequest, campaign_id: str) -> HttpResponse:
    """Make it a draft again."""
    done = "The campaign is a draft again."
    return _switch(request, campaign_id, services.unschedule_campaign, done)
