"""The sending app: the product."""

from __future__ import annotations

from django.apps import AppConfig


class SendingConfig(AppConfig):
    name = "sending"
    verbose_name = "Sending"
