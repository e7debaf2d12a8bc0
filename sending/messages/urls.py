"""Addresses of the message log, under /developers/."""

from __future__ import annotations

from django.urls import URLPattern, path

from sending.messages import views

urlpatterns: list[URLPattern] = [
    path("messages/", views.messages_list, name="messages-list"),
    path("messages/for-recipient", views.for_recipient, name="messages-for-recipient"),
    path("messages/<str:message_id>", views.message_page, name="message-page"),
    path("api/", views.api_reference, name="api-reference"),
]
