"""The audit log: who changed what, when. Rows are only ever added."""

from __future__ import annotations

from django.db import models

from tenants.scoping.models import TenantModel


class AuditEntry(TenantModel):
    """One change. `action` is `room.verb`, `target` the public id or name of what was changed."""

    PREFIX = "aud"

    at = models.DateTimeField(auto_now_add=True)
    actor_label = models.CharField(max_length=254)
    user = models.ForeignKey("tenants.User", on_delete=models.SET_NULL, null=True, db_index=False)
    api_key_id = models.UUIDField(null=True)
    action = models.CharField(max_length=60)
    target = models.CharField(max_length=300, blank=True)
    detail = models.JSONField(default=dict)  # before and after, or counts; never secrets
    ip_address = models.GenericIPAddressField(null=True)

    class Meta(TenantModel.Meta):
        # The log's page: newest first, by the UUIDv7 key.
        indexes = [models.Index(fields=["tenant", "-id"], name="audit_newest")]
