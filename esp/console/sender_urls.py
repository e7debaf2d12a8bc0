"""Addresses of the pages on which a tenant sees what holds its mail."""

from __future__ import annotations

from django.urls import path

from esp.console import hold_views

urlpatterns = [path("holds/", hold_views.held_list, name="held-list")]
