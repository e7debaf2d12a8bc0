"""Every address of the site, by room."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, include, path

from esp.console.metrics import metrics


def healthz(request: HttpRequest) -> HttpResponse:
    """Answer that the web process serves; it asks no other server."""
    return HttpResponse("ok\n", content_type="text/plain")


healthz.needs = "public"  # type: ignore[attr-defined]

urlpatterns: list[URLPattern | URLResolver] = [
    path("healthz", healthz, name="healthz"),
    path("metrics", metrics, name="metrics"),
    path("api/v1/", include("esp.api")),  # first: programs ask often, and each pattern is tried
    path("", include("sending.campaigns.urls")),
    path("", include("tenants.accounts.urls")),
    path("", include("tenants.directory.urls")),
    path("settings/audit/", include("tenants.audit.urls")),
    path("developers/keys/", include("tenants.apikeys.urls")),
    path("operator/", include("esp.console.urls")),
    path("operator/", include("deliverability.ips.urls")),
    path("operator/", include("deliverability.alerts.urls")),
    path("operator/", include("deliverability.tls.urls")),
    path("operator/", include("sending.routes.urls")),
    path("templates/", include("sending.content.urls")),
    path("previews/", include("sending.previews.urls")),
    path("developers/", include("sending.messages.urls")),
    path("deliverability/", include("deliverability.domains.urls")),
    path("deliverability/", include("esp.console.sender_urls")),
    path("rehearsal/", include("deliverability.rehearsal.urls")),
    path("t/", include("sending.tracking.urls")),
    path("hooks/", include("sending.feedback.urls")),
    path("", include("sending.audience.urls")),
]
