"""Routes and sets of them: an operator's configuration of ways out."""

from __future__ import annotations

from django.db import models

from esp.kit.fields import EncryptedTextField
from esp.lib.ids import new_id, to_public
from tenants.scoping.models import TenantModel


class Route(models.Model):
    """A way out: our own delivery, a smarthost, or a provider's HTTP API."""

    class Kind(models.TextChoices):
        DIRECT = "direct", "Direct to the receivers' servers"
        SMARTHOST = "smarthost", "Smarthost (SMTP)"
        HTTP = "http", "Provider's HTTP API"

    class Status(models.TextChoices):
        ACTIVE = "active", "Active"
        OFF = "off", "Off"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(max_length=60, unique=True)
    kind = models.CharField(max_length=10, choices=Kind)
    status = models.CharField(max_length=10, choices=Status, default=Status.ACTIVE)
    # By kind: host, port, tls, verify, auth, username | provider, base_url, …
    options = models.JSONField(default=dict)
    # JSON of what must not be read: password, token, API key, client certificate's key.
    secrets = EncryptedTextField(default="", blank=True)
    # The health check's word: a route that failed rests until `rests_until`.
    failures = models.PositiveIntegerField(default=0)
    rests_until = models.DateTimeField(null=True)
    last_error = models.CharField(max_length=300, blank=True)
    checked_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name

    @property
    def public_id(self) -> str:
        """The id that users see."""
        return to_public("rte", self.pk)


class RouteWebhook(models.Model):
    """Where a provider reports what became of mail that a route handed it, and what came."""

    route = models.OneToOneField(
        Route, on_delete=models.CASCADE, primary_key=True, related_name="webhook"
    )
    # The part of the address that cannot be guessed.
    token = EncryptedTextField()
    # JSON: `key` of the signature, `basic_auth` ("user:password"). `topic_arn` may be read.
    secrets = EncryptedTextField(default="", blank=True)
    options = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)
    called_at = models.DateTimeField(null=True)  # by the provider, proven
    calls = models.PositiveBigIntegerField(default=0)
    reports = models.PositiveBigIntegerField(default=0)  # stored; a repeated one counts once
    unmatched = models.PositiveBigIntegerField(default=0)  # on no message that this route carried
    refused_at = models.DateTimeField(null=True)
    refusals = models.PositiveBigIntegerField(default=0)
    refusal = models.CharField(max_length=300, blank=True)  # the last one's reason

    def __str__(self) -> str:
        return f"webhook of {self.route_id}"


class RouteStat(models.Model):
    """What a route did in a minute: what "by performance" is decided on."""

    route = models.ForeignKey(Route, on_delete=models.CASCADE, related_name="stats")
    minute = models.DateTimeField()
    delivered = models.PositiveIntegerField(default=0)
    deferred = models.PositiveIntegerField(default=0)
    bounced = models.PositiveIntegerField(default=0)
    seconds = models.FloatField(default=0)  # sum over attempts

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["route", "minute"], name="route_stat_unique"),
        ]


class RouteSet(models.Model):
    """Routes that share mail, by a strategy."""

    class Strategy(models.TextChoices):
        FAILOVER = "failover", "In order, the next when one fails"
        ROUND_ROBIN = "round_robin", "In turn"
        WEIGHTED = "weighted", "By weight"
        PERFORMANCE = "performance", "By delivery rate and latency"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(max_length=60, unique=True)
    strategy = models.CharField(max_length=12, choices=Strategy, default=Strategy.FAILOVER)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name

    @property
    def public_id(self) -> str:
        """The id that users see."""
        return to_public("rset", self.pk)


class RouteSetMember(models.Model):
    """A route's place and share in a set."""

    route_set = models.ForeignKey(RouteSet, on_delete=models.CASCADE, related_name="members")
    route = models.ForeignKey(Route, on_delete=models.PROTECT, related_name="memberships")
    position = models.PositiveSmallIntegerField(default=0)
    weight = models.PositiveSmallIntegerField(default=1)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["route_set", "route"], name="route_member_unique"),
        ]


class RouteRule(TenantModel):
    """Which set a tenant's stream uses; without a rule, the default of the stream."""

    PREFIX = "rrl"

    stream = models.CharField(max_length=16)  # transactional, broadcast, any
    route_set = models.ForeignKey(RouteSet, on_delete=models.PROTECT, related_name="rules")

    class Meta(TenantModel.Meta):
        constraints = [
            models.UniqueConstraint(fields=["tenant", "stream"], name="routerule_unique"),
        ]


class DefaultRoute(models.Model):
    """Which set a stream uses when a tenant has no rule; without a row, direct delivery."""

    stream = models.CharField(max_length=16, unique=True)
    route_set = models.ForeignKey(RouteSet, on_delete=models.PROTECT, related_name="defaults")
