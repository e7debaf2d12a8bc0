"""The kit: Django helpers that every room may use."""

from __future__ import annotations

from django.apps import AppConfig


class KitConfig(AppConfig):
    name = "esp.kit"
    label = "kit"
