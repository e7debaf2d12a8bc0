"""Addresses of the domain and sender pages."""

from __future__ import annotations

from django.urls import path

from deliverability.domains import views

urlpatterns = [
    path("domains/", views.domain_list, name="domains-list"),
    path("domains/add/", views.domain_add, name="domains-add"),
    path("domains/<str:domain_id>/", views.domain_detail, name="domains-detail"),
    path("domains/<str:domain_id>/check/", views.domain_check, name="domains-check"),
    path("domains/<str:domain_id>/remove/", views.domain_remove, name="domains-remove"),
    path("senders/", views.sender_list, name="senders-list"),
    path("senders/add/", views.sender_add, name="senders-add"),
    path("senders/<str:sender_id>/remove/", views.sender_remove, name="senders-remove"),
]
