"""Addresses of the API keys."""

from __future__ import annotations

from django.urls import path

from tenants.apikeys import views

urlpatterns = [
    path("", views.keys_list, name="keys-list"),
    path("new", views.create_key, name="keys-create"),
    path("<str:key_id>/revoke", views.revoke_key, name="keys-revoke"),
]
