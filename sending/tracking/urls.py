"""Addresses that stand in messages; they live as long as the messages do, so they never change."""

from __future__ import annotations

from django.urls import path

from sending.tracking import views

urlpatterns = [
    path("o/<str:token>", views.open_pixel, name="track-open"),
    path("c/<str:token>", views.click, name="track-click"),
    path("u/<str:token>", views.unsubscribe, name="track-unsubscribe"),
    path("p/<str:token>", views.preferences, name="track-preferences"),
    path("v/<str:token>", views.view_in_browser, name="track-view"),
]
