"""API keys: shown once, stored hashed, scoped, revocable."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models

from esp.lib.ids import to_public
from tenants.scoping.models import TenantModel


class ApiKey(TenantModel):
    """A key for programs. Its text is `mw_<tenant>_<secret>`; only SHA-256 of the secret stays.

    The tenant stands in the key so that the row is looked up inside that tenant's scope: row-level
    security holds before it is known whether the key is real.
    """

    PREFIX = "key"

    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=12)  # first characters of the secret, to tell keys apart
    secret_hash = models.CharField(max_length=64, unique=True)
    scopes = ArrayField(models.CharField(max_length=40))
    created_by = models.ForeignKey("tenants.User", on_delete=models.SET_NULL, null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    class Meta(TenantModel.Meta):
        indexes = [models.Index(fields=["tenant", "-created_at"], name="apikey_list")]

    @property
    def public_id(self) -> str:
        """The id that users see."""
        return to_public("key", self.pk)
