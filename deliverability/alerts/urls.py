"""Addresses of the operator's pages about alerts."""

from __future__ import annotations

from django.urls import path

from deliverability.alerts import views

urlpatterns = [
    path("alerts/", views.alerts_list, name="operator-alerts"),
    path("alerts/banner", views.alerts_banner, name="operator-alerts-banner"),
]
