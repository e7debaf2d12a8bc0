"""The operator's doors to alerts."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from deliverability.alerts.checks import check_notes
from deliverability.alerts.selectors import alert_count, open_alerts, past_alerts
from esp.kit.paging import newest_first
from tenants.directory.gate import operator_page


@operator_page
@require_GET
def alerts_list(request: HttpRequest) -> HttpResponse:
    """Show what is wrong now, and what was."""
    page = newest_first(
        past_alerts(), after=request.GET.get("after"), before=request.GET.get("before")
    )
    context = {"open_alerts": open_alerts(), "page": page, "checks": check_notes()}
    name = "deliverability/alerts/list.html"
    is_part = request.headers.get("HX-Request") == "true"
    return render(request, f"{name}#live" if is_part else name, context)


@operator_page
@require_GET
def alerts_banner(request: HttpRequest) -> HttpResponse:
    """Say on every operator's page how many alerts are open; nothing when all is well."""
    return render(request, "deliverability/alerts/banner.html", {"alerts": alert_count()})
