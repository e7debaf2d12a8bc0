"""Lanes as the operator sees them: their state, limits that override the defaults, the audit lines.

Valkey holds what changes by the second; here stands what must survive it.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from esp.lib.ids import new_id, to_public


class LaneState(models.Model):
    """A lane (source IP × site) that has been used: counts, suspension, what the operator did."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    source_id = models.CharField(max_length=36)  # of the IpAddress; "" is the unbound source
    site = models.CharField(max_length=60)
    is_paused = models.BooleanField(default=False)  # by an operator, until resumed
    paused_reason = models.CharField(max_length=300, blank=True)
    suspended_until = models.DateTimeField(null=True)  # by a shaping rule
    suspended_rule = models.CharField(max_length=60, blank=True)
    suspended_reason = models.CharField(max_length=300, blank=True)
    concurrency = models.FloatField(default=0)  # what adaptive concurrency found; 0: not yet known
    # What left in the current hour and day (UTC): seeds Valkey's counts when it has lost them.
    hour = models.DateTimeField(null=True)
    sent_hour = models.PositiveIntegerField(default=0)
    day = models.DateField(null=True)
    sent_day = models.PositiveIntegerField(default=0)
    delivered = models.BigIntegerField(default=0)
    deferred = models.BigIntegerField(default=0)
    bounced = models.BigIntegerField(default=0)
    last_reply = models.CharField(max_length=300, blank=True)  # addresses taken out
    last_used_at = models.DateTimeField(null=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["source_id", "site"], name="lane_unique"),
        ]
        indexes = [
            # The workers' look at what is closed.
            models.Index(
                fields=["suspended_until"],
                condition=Q(suspended_until__isnull=False),
                name="lane_suspended",
            ),
        ]

    @property
    def public_id(self) -> str:
        """The form that users see."""
        return to_public("lane", self.pk)


class LimitOverride(models.Model):
    """An operator's limit, in place of the default of the shaping file. Empty fields leave it."""

    class Scope(models.TextChoices):
        GLOBAL = "global", "Everything that leaves"
        SITE = "site", "Every lane to a site"
        LANE = "lane", "One lane"
        DOMAIN = "domain", "A recipients' domain"
        TENANT = "tenant", "A tenant"
        BATCH = "batch", "A campaign"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    scope = models.CharField(max_length=8, choices=Scope)
    # "" (global), a site, "source_id|site", a domain, a tenant's id, a batch's id.
    key = models.CharField(max_length=255, blank=True)
    connections = models.PositiveIntegerField(null=True, blank=True)
    messages_per_connection = models.PositiveIntegerField(null=True, blank=True)
    connections_per_minute = models.PositiveIntegerField(null=True, blank=True)
    per_second = models.FloatField(null=True, blank=True)
    per_minute = models.PositiveIntegerField(null=True, blank=True)
    per_hour = models.PositiveIntegerField(null=True, blank=True)
    per_day = models.PositiveIntegerField(null=True, blank=True)
    note = models.CharField(max_length=300, blank=True)
    # What left under it in the hour and day (UTC) of its last use, for a limit of those: seeds
    # Valkey's counts when it has lost them. Sites and lanes are counted by lane.
    hour = models.DateTimeField(null=True, editable=False)
    sent_hour = models.PositiveBigIntegerField(default=0, db_default=0, editable=False)
    day = models.DateField(null=True, editable=False)
    sent_day = models.PositiveBigIntegerField(default=0, db_default=0, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["scope", "key"], name="limit_override_unique"),
        ]

    @property
    def public_id(self) -> str:
        """The form that users see."""
        return to_public("lim", self.pk)


ACTION_WORDS = {
    "slow_down": "Slowed down",
    "one_connection": "Kept to one connection",
    "suspend": "Suspended",
    "other_source": "Moved to other sources",
    "hold_batch": "Held the campaign",
    "hold_tenant": "Held the tenant",
    "limit": "Changed the limits",
    "pause": "Paused",
    "resume": "Resumed",
    "lift": "Lifted the suspension",
    "requeue": "Requeued",
    "drain": "Drained",
    "bounce": "Ended what waited",
}


class ShapingAction(models.Model):
    """One audit line: which reply met which rule, what was done, until when. Rows are only added.

    Recipients' addresses are taken out of the reply, so that every tenant in the lane may read it.
    """

    PREFIX = "act"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    at = models.DateTimeField()
    action = models.CharField(max_length=20)  # `ReactionKind` of the engine, or "pause", "resume"
    rule = models.CharField(max_length=60, blank=True)
    title = models.CharField(max_length=200, blank=True)
    source_id = models.CharField(max_length=36, blank=True)
    source_address = models.CharField(max_length=45, blank=True)
    site = models.CharField(max_length=60, blank=True)
    # Whom it was done to, or whose message brought the reply; no keys, the line outlives both.
    tenant_ref = models.UUIDField(null=True)
    batch_ref = models.UUIDField(null=True)
    message_ref = models.UUIDField(null=True)
    reply = models.CharField(max_length=500, blank=True)
    until = models.DateTimeField(null=True)
    actor = models.CharField(max_length=254, blank=True)  # the operator, when a person did it

    class Meta:
        indexes = [
            # "What happened in this lane?", newest first.
            models.Index(fields=["source_id", "site", "-id"], name="action_lane"),
            # "What happened to this tenant?"
            models.Index(fields=["tenant_ref", "-id"], name="action_tenant"),
        ]

    @property
    def action_words(self) -> str:
        """The action in words for people."""
        return ACTION_WORDS.get(self.action, self.action)
