"""Addresses of the operator's page about TLS."""

from __future__ import annotations

from django.urls import path

from deliverability.tls import views

urlpatterns = [
    path("tls/", views.tls_page, name="operator-tls"),
    path("tls/<str:domain>/release", views.release, name="operator-tls-release"),
]
