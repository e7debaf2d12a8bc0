"""Operators' alerts."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from esp.lib.ids import new_id, to_public


class Alert(models.Model):
    """Something that an operator must know; one open row a code and subject."""

    class Severity(models.TextChoices):
        WARNING = "warning", "Warning"
        CRITICAL = "critical", "Critical"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    code = models.CharField(max_length=40)  # "valkey-down", "queue-stuck", …
    subject = models.CharField(max_length=120, blank=True)  # a host, a lane, a route
    severity = models.CharField(max_length=8, choices=Severity)
    title = models.CharField(max_length=200)
    detail = models.TextField(blank=True)  # what it means and what to do
    opened_at = models.DateTimeField()
    seen_at = models.DateTimeField()  # last
    count = models.PositiveIntegerField(default=1)
    closed_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["code", "subject"], condition=Q(closed_at=None), name="alert_open_unique"
            ),
        ]

    @property
    def public_id(self) -> str:
        """The id that users see."""
        return to_public("alr", self.pk)
