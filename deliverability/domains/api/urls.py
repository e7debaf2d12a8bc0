"""Addresses of the domains API."""

from __future__ import annotations

from django.urls import URLPattern, path

from deliverability.domains.api.views import DomainCheckView, DomainsView, DomainView

urlpatterns: list[URLPattern] = [
    path("domains", DomainsView.as_view(), name="api-domains"),
    path("domains/<str:domain_id>", DomainView.as_view(), name="api-domain"),
    path("domains/<str:domain_id>/check", DomainCheckView.as_view(), name="api-domain-check"),
]
