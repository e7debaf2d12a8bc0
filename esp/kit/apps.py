"""The kit: Django helpers that every room may use."""

from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig


class KitConfig(AppConfig):
    name = "esp.kit"
    label = "kit"

    def ready(self) -> None:
        """Load the Celery application: whoever enqueues a job needs its broker, not only workers.

        By name, because the kit stands below the project.
        """
        import_module("esp.celery")
