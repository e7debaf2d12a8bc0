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

    class Kind(models.TextChoices):
        SHARED = "shared", "Shared"
        DEDICATED = "dedicated", "Dedicated"
        HYBRID = "hybrid", "Dedicated, with overflow"
        HIGH_RISK = "high_risk", "High risk"

    class Overflow(models.TextChoices):
        NEVER = "never", "Never: the mail waits"
        UNAVAILABLE = "unavailable", "When no address of the pool can send"
        FULL = "full", "When the pool's limits and caps are used up, too"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(max_length=60, unique=True)
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.SHARED)
    purpose = models.CharField(max_length=16, choices=Purpose, default=Purpose.ANY)
    is_shared = models.BooleanField(default=True)  # tenants without a pool of their own use it
    # Where mail goes that finds no room here (hybrid), and when that may be.
    overflow_pool = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    overflow_when = models.CharField(max_length=12, choices=Overflow, default=Overflow.NEVER)
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
        QUARANTINED = "quarantined", "Quarantined"
        OFF = "off", "Off"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    address = models.GenericIPAddressField(unique=True)
    ehlo_name = models.CharField(max_length=253)
    pool = models.ForeignKey(IpPool, on_delete=models.PROTECT, related_name="addresses")
    status = models.CharField(max_length=12, choices=Status, default=Status.ACTIVE)
    status_reason = models.CharField(max_length=300, blank=True)
    weight = models.PositiveSmallIntegerField(default=1)  # its share of the pool's mail
    # The host that has the address; only its workers send from it. "" is every host.
    node = models.CharField(max_length=100, blank=True)
    place = models.CharField(max_length=60, blank=True)  # where that is, for people
    ptr_checked_at = models.DateTimeField(null=True)
    ptr_problem = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.address

    @property
    def public_id(self) -> str:
        """The id that users see."""
        return to_public("ip", self.pk)


class IpCap(models.Model):
    """How many messages an address may send to a site on a day (UTC): what warm-up plans write."""

    ip = models.ForeignKey(IpAddress, on_delete=models.CASCADE, related_name="caps")
    site = models.CharField(max_length=60, blank=True)  # "" is each site without a row of its own
    on = models.DateField()
    messages = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["ip", "site", "on"], name="ipcap_unique"),
        ]


class DeliveryNode(models.Model):
    """A host that runs delivery workers; its sign of life tells whether its addresses can send."""

    name = models.CharField(max_length=100, primary_key=True)
    seen_at = models.DateTimeField()
    is_draining = models.BooleanField(default=False)


class PoolRule(TenantModel):
    """Which pool a tenant's stream uses; without a rule, the shared pool for that stream.

    A rule for a sending domain beats one for the stream alone.
    """

    stream = models.CharField(max_length=16, choices=IpPool.Purpose)
    domain = models.ForeignKey(
        "deliverability.Domain", on_delete=models.CASCADE, null=True, blank=True, related_name="+"
    )
    pool = models.ForeignKey(IpPool, on_delete=models.PROTECT, related_name="rules")

    class Meta(TenantModel.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "stream", "domain"],
                name="poolrule_unique",
                nulls_distinct=False,
            ),
        ]
