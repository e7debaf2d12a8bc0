"""Addresses of the messages API."""

from __future__ import annotations

from django.urls import URLPattern, path

from sending.messages.api.views import EventsView, MessagesView, MessageView

urlpatterns: list[URLPattern] = [
    path("messages", MessagesView.as_view(), name="api-messages"),
    path("messages/<str:message_id>", MessageView.as_view(), name="api-message"),
    path("events", EventsView.as_view(), name="api-events"),
]
