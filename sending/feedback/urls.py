"""Addresses that stand at providers: where they report on mail of our routes."""

from __future__ import annotations

from django.urls import path

from sending.feedback import views

urlpatterns = [
    path("<str:route_id>/<str:token>", views.provider_reports, name="route-reports"),
]
