"""Addresses of the messages API."""

from __future__ import annotations

from django.urls import URLPattern, path

from sending.messages.api.views import (
    BatchWaitView,
    EventsView,
    MessagesView,
    MessageView,
)

urlpatterns: list[URLPattern] = [
    path("messages", MessagesView.as_view(), name="api-messages"),
    path("messages/<str:message_id>", MessageView.as_view(), name="api-message"),
    path("batches/<str:batch_id>/waiting", BatchWaitView.as_view(), name="api-batch-waiting"),
    path("events", EventsView.as_view(), name="api-events"),
]
