"""The first page after sign-in."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from sending.campaigns.dashboard import alerts, first_steps, month
from sending.campaigns.report import rows_of
from sending.campaigns.selectors import latest_campaigns
from tenants.directory.gate import MemberRequest, member_page

LATEST = 5


@member_page(needs=None)
@require_safe
def dashboard(request: MemberRequest) -> HttpResponse:
    """What to do next, what runs, and the last 30 days."""
    steps = first_steps()
    context = {
        "steps": steps,
        "steps_done": sum(step.state == "done" for step in steps),
        "steps_total": len(steps),
        "is_set_up": all(step.state == "done" for step in steps),
        "alerts": alerts(),
        "month": month(),
        "rows": rows_of(latest_campaigns(LATEST)),
    }
    return render(request, "sending/campaigns/dashboard.html", context)
