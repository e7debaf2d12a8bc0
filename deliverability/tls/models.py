"""TLS policies and results, by recipients' domain."""

from __future__ import annotations

from django.db import models

from esp.lib.ids import new_id


class MtaStsPolicy(models.Model):
    """A domain's MTA-STS policy as it was fetched (RFC 8461 section 5.1), shared by all workers."""

    domain = models.CharField(max_length=253, primary_key=True)
    policy_id = models.CharField(max_length=32)
    mode = models.CharField(max_length=8)  # enforce, testing, none
    mx_patterns = models.JSONField(default=list)
    fetched_at = models.DateTimeField()
    expires_at = models.DateTimeField()


class TlsRequirement(models.Model):
    """A recipients' domain that gets mail by verified TLS only, by the operator's word."""

    domain = models.CharField(max_length=253, primary_key=True)
    note = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)


class TlsResult(models.Model):
    """How many sessions ended how in a day, as TLS-RPT reports it (RFC 8460 section 4)."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    day = models.DateField()
    domain = models.CharField(max_length=253)
    policy_type = models.CharField(max_length=16)  # sts, tlsa, no-policy-found
    result_type = models.CharField(max_length=40)  # success, starttls-not-supported, …
    mx_host = models.CharField(max_length=253, blank=True)
    source_address = models.CharField(max_length=45, blank=True)
    sessions = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["day", "domain", "policy_type", "result_type", "mx_host", "source_address"],
                name="tls_result_unique",
            ),
        ]
