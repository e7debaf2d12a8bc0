"""The sending app: the product."""

from __future__ import annotations

from django.apps import AppConfig
from django.conf import settings

from sending.lanes.shaping import shaping_in_force


class SendingConfig(AppConfig):
    name = "sending"
    verbose_name = "Sending"

    def ready(self) -> None:
        """Refuse to start with a shaping file that is wrong; the shipped ones the tests check."""
        if settings.SHAPING_FILE:
            shaping_in_force()
