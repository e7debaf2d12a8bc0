"""Sending domains, their DKIM keys and DNS checks, and the senders (From addresses) on them."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Lower

from esp.kit.fields import EncryptedTextField
from tenants.scoping.models import TenantModel


class Domain(TenantModel):
    """A domain that a tenant sends from. It may send only while `status` is verified."""

    PREFIX = "dom"

    class Status(models.TextChoices):
        PENDING = "pending", "Waiting for DNS"
        VERIFIED = "verified", "Verified"
        FAILING = "failing", "Records are missing"

    name = models.CharField(max_length=253)  # A-label form, lower case
    status = models.CharField(max_length=12, choices=Status, default=Status.PENDING)
    return_path_label = models.CharField(max_length=63, default="bounce")
    tracking_label = models.CharField(max_length=63, default="track")
    created_at = models.DateTimeField(auto_now_add=True)
    verified_at = models.DateTimeField(null=True)
    checked_at = models.DateTimeField(null=True)

    class Meta(TenantModel.Meta):
        constraints = [
            models.UniqueConstraint(fields=["tenant", "name"], name="domain_unique"),
            # Two tenants must never both send as one domain: the first that verifies holds it.
            models.UniqueConstraint(
                fields=["name"],
                condition=models.Q(status="verified"),
                name="domain_verified_once",
            ),
        ]

    @property
    def return_path_domain(self) -> str:
        """The host in the envelope sender; a CNAME to the product."""
        return f"{self.return_path_label}.{self.name}"

    @property
    def tracking_domain(self) -> str:
        """The host of tracked links; a CNAME to the product."""
        return f"{self.tracking_label}.{self.name}"


class DkimKey(TenantModel):
    """A private key of a domain under its selector; the public half is a DNS record."""

    class Algorithm(models.TextChoices):
        RSA = "rsa-sha256", "RSA 2048"
        ED25519 = "ed25519-sha256", "Ed25519"

    domain = models.ForeignKey(Domain, on_delete=models.CASCADE, related_name="dkim_keys")
    selector = models.CharField(max_length=63)
    algorithm = models.CharField(max_length=16, choices=Algorithm)
    private_key = EncryptedTextField()  # PEM (PKCS 8), encrypted at rest
    public_key = models.TextField()  # base64 as in the p= tag (RFC 6376 3.6.1, RFC 8463 4)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        constraints = [
            models.UniqueConstraint(fields=["domain", "selector"], name="dkim_selector_unique"),
        ]


class DnsCheck(TenantModel):
    """The latest look at one record of a domain."""

    class Kind(models.TextChoices):
        DKIM_RSA = "dkim-rsa", "DKIM (RSA)"
        DKIM_ED25519 = "dkim-ed25519", "DKIM (Ed25519)"
        RETURN_PATH = "return-path", "Return path"
        TRACKING = "tracking", "Tracking"
        DMARC = "dmarc", "DMARC"

    domain = models.ForeignKey(Domain, on_delete=models.CASCADE, related_name="checks")
    kind = models.CharField(max_length=20, choices=Kind)
    is_ok = models.BooleanField(default=False)
    found = models.JSONField(default=list)  # what DNS answered, as texts
    problem = models.CharField(max_length=400, blank=True)  # a sentence that says what to do
    checked_at = models.DateTimeField()

    class Meta(TenantModel.Meta):
        constraints = [
            models.UniqueConstraint(fields=["domain", "kind"], name="dnscheck_unique"),
        ]


class Sender(TenantModel):
    """A From address that campaigns choose: name, address on a domain, where replies go."""

    PREFIX = "snd"

    domain = models.ForeignKey(Domain, on_delete=models.CASCADE, related_name="senders")
    name = models.CharField(max_length=100)
    email = models.EmailField(max_length=254)
    reply_to = models.EmailField(max_length=254, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        constraints = [
            models.UniqueConstraint("tenant", Lower("email"), name="sender_unique"),
        ]
