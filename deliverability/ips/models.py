"""The addresses that mail leaves from. They belong to the operator, not to a tenant."""

from __future__ import annotations

from django.db import models

from esp.lib.ids import new_id, to_public
from tenants.scoping.models import TenantModel


class IpPool(models.Model):
    """A set of source IPs with one purpose."""

    class Purpose(models.TextChoices):
        TRANSACTIONAL = "transactional", "Transactional"
        BROADCAST = "broadcast", "Broadcast"
        ANY = "any", "Any stream"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(max_length=60, unique=True)
    purpose = models.CharField(max_length=16, choices=Purpose, default=Purpose.ANY)
    is_shared = models.BooleanField(default=True)  # tenants without a pool of their own use it
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name

    @property
    def public_id(self) -> str:
        """The id that users see."""
        return to_public("pool", self.pk)


class IpAddress(models.Model):
    """A source IP: the address to bind, and the name to say in EHLO (its PTR record)."""

    class Status(models.TextChoices):
        ACTIVE = "active", "Active"
        DRAINING = "draining", "Draining"
        OFF = "off", "Off"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    address = models.GenericIPAddressField(unique=True)
    ehlo_name = models.CharField(max_length=253)
    pool = models.ForeignKey(IpPool, on_delete=models.PROTECT, related_name="addresses")
    status = models.CharField(max_length=10, choices=Status, default=Status.ACTIVE)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.address

    @property
    def public_id(self) -> str:
        """The id that users see."""
        return to_public("ip", self.pk)


class PoolRule(TenantModel):
    """Which pool a tenant's stream uses; without a rule, the shared pool for that stream."""

    stream = models.CharField(max_length=16, choices=IpPool.Purpose)
    pool = models.ForeignKey(IpPool, on_delete=models.PROTECT, related_name="rules")

    class Meta(TenantModel.Meta):
        constraints = [
            models.UniqueConstraint(fields=["tenant", "stream"], name="poolrule_unique"),
        ]
