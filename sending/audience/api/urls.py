"""Addresses of the audience in the REST API, below /api/v1/."""

from __future__ import annotations

from django.urls import path

from sending.audience.api import views

urlpatterns = [
    path("contacts", views.ContactsView.as_view(), name="api-contacts"),
    path("contacts/<str:contact_id>", views.ContactView.as_view(), name="api-contact"),
    path("lists", views.ListsView.as_view(), name="api-lists"),
    path("lists/<str:list_id>", views.ListView.as_view(), name="api-list"),
    path(
        "lists/<str:list_id>/subscriptions",
        views.SubscriptionsView.as_view(),
        name="api-list-subscriptions",
    ),
    path(
        "lists/<str:list_id>/subscriptions/<str:contact_id>",
        views.SubscriptionView.as_view(),
        name="api-list-subscription",
    ),
    path("suppressions", views.SuppressionsView.as_view(), name="api-suppressions"),
    path(
        "suppressions/<str:suppression_id>",
        views.SuppressionView.as_view(),
        name="api-suppression",
    ),
]
