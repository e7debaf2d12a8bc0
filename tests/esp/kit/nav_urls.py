"""Addresses with the names of the navigation, for testing how it picks what to show."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path

_NEEDS = {
    "dashboard": ("", "member"),
    "campaigns-list": ("campaigns/", "campaigns:read"),
    "contacts-list": ("audience/", "audience:read"),
    "lists-list": ("audience/lists/", "audience:read"),
    "imports-list": ("audience/imports/", "audience:read"),
    "reports-list": ("reports/", "reports:read"),
    "settings-workspace": ("settings/", "member"),
    "audit-list": ("settings/audit/", "audit:read"),
    "operator-tenants": ("operator/", "operator"),
    "rehearsal-mailboxes": ("rehearsal/", "member"),
}


def _page(name: str, route: str, needs: str) -> URLPattern:
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(name)

    view.needs = needs  # type: ignore[attr-defined]
    return path(route, view, name=name)


urlpatterns = [_page(name, route, needs) for name, (route, needs) in _NEEDS.items()]
