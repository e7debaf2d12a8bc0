"""Holds on sending."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from tenants.scoping.models import TenantModel


class SendingHold(TenantModel):
    """A tenant's stream or batch that waits: set by a shaping rule, reputation or an operator."""

    PREFIX = "hold"

    stream = models.CharField(max_length=16, blank=True)  # "" is every stream
    batch_ref = models.UUIDField(null=True)  # None: the whole tenant
    reason = models.CharField(max_length=300)  # in words for people
    rule = models.CharField(max_length=60, blank=True)  # the shaping rule, when one did it
    created_at = models.DateTimeField(auto_now_add=True)
    until = models.DateTimeField(null=True)  # None: until somebody lifts it
    lifted_at = models.DateTimeField(null=True)
    lifted_by = models.CharField(max_length=254, blank=True)

    class Meta(TenantModel.Meta):
        indexes = [
            # The claim's look at what is held.
            models.Index(
                fields=["tenant", "batch_ref"], condition=Q(lifted_at=None), name="hold_open"
            ),
        ]
