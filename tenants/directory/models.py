"""Tenants, who belongs to them with which role, and who is invited."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Lower

from esp.lib.ids import new_id, to_public
from tenants.directory.permissions import Role
from tenants.scoping.models import TenantModel


class Tenant(models.Model):
    """A company that sends. Its id stands in every row that belongs to it."""

    class Status(models.TextChoices):
        ACTIVE = "active", "Active"
        SUSPENDED = "suspended", "Suspended"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(max_length=120)
    slug = models.SlugField(max_length=60, unique=True)
    status = models.CharField(max_length=12, choices=Status, default=Status.ACTIVE)
    suspended_reason = models.CharField(max_length=300, blank=True)
    # Stands in the footer of marketing mail; several laws demand it (CAN-SPAM, CASL).
    postal_address = models.TextField(max_length=500, blank=True)
    timezone = models.CharField(max_length=64, default="UTC")
    weight = models.PositiveSmallIntegerField(default=1)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name

    @property
    def is_active(self) -> bool:
        """Whether the tenant may send."""
        return self.status == self.Status.ACTIVE

    @property
    def public_id(self) -> str:
        """The id that users see."""
        return to_public("ten", self.pk)


class Membership(TenantModel):
    """A person in a tenant, with one role."""

    PREFIX = "mem"

    user = models.ForeignKey("tenants.User", on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=12, choices=Role)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        constraints = [
            models.UniqueConstraint(fields=["tenant", "user"], name="membership_unique"),
        ]

    @property
    def public_id(self) -> str:
        """The id that users see."""
        return to_public("mem", self.pk)


class Invitation(TenantModel):
    """An open invitation; the link in the mail carries a secret whose hash stands here."""

    PREFIX = "inv"

    email = models.EmailField(max_length=254)
    role = models.CharField(max_length=12, choices=Role)
    secret_hash = models.CharField(max_length=64)
    invited_by = models.ForeignKey("tenants.User", on_delete=models.SET_NULL, null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True)

    class Meta(TenantModel.Meta):
        constraints = [
            models.UniqueConstraint(
                "tenant",
                Lower("email"),
                condition=models.Q(accepted_at=None),
                name="invitation_open_unique",
            ),
        ]

    @property
    def public_id(self) -> str:
        """The id that users see."""
        return to_public("inv", self.pk)
