"""The append-only event log, delivery attempts, and the roll-ups that reports read."""

from __future__ import annotations

from django.db import models
from django.db.models import Case, F, Func, Q, Value, When
from django.db.models.functions import Left, NullIf

from tenants.scoping.models import HotTenantModel

# What stands in an attempt's reply before the id that a provider gave the message.
PROVIDER_ID = ", its id "


class EventKind(models.TextChoices):
    """What can happen to a message; the field's own words (docs/glossary.md)."""

    ACCEPTED = "accepted", "Accepted"
    DROPPED = "dropped", "Not sent"
    DEFERRED = "deferred", "Deferred"
    DELIVERED = "delivered", "Delivered"
    BOUNCED = "bounced", "Bounced"
    BOUNCED_LATE = "bounced_late", "Bounced late"
    EXPIRED = "expired", "Expired"
    CANCELLED = "cancelled", "Cancelled"
    COMPLAINED = "complained", "Complained"
    OPENED = "opened", "Opened"
    CLICKED = "clicked", "Clicked"
    UNSUBSCRIBED = "unsubscribed", "Unsubscribed"
    AUTOREPLIED = "autoreplied", "Automatic reply"


class Event(HotTenantModel):
    """One fact about a message. Partitioned by month through its key; rows are only ever added."""

    PREFIX = "evt"

    kind = models.CharField(max_length=14, choices=EventKind)
    at = models.DateTimeField()
    message_id = models.UUIDField()
    batch_id = models.UUIDField()
    contact_id = models.UUIDField(null=True)
    recipient = models.CharField(max_length=254)
    site = models.CharField(max_length=60, blank=True)
    is_machine = models.BooleanField(default=False)  # an open or click that no person made
    detail = models.JSONField(default=dict)  # reply, class, link, user agent, … by kind

    class Meta(HotTenantModel.Meta):
        indexes = [
            models.Index(fields=["tenant", "id"], name="event_newest"),
            models.Index(fields=["message_id", "id"], name="event_timeline"),
            models.Index(fields=["batch_id", "kind", "id"], name="event_batch"),
        ]


class Attempt(HotTenantModel):
    """One try to hand a message over. Partitioned by month through its key."""

    PREFIX = "atp"

    message_id = models.UUIDField()
    at = models.DateTimeField()
    number = models.PositiveSmallIntegerField()
    outcome = models.CharField(max_length=10)  # delivered, deferred, bounced
    phase = models.CharField(max_length=12)  # connect, greet, tls, mail, rcpt, data, …
    source_address = models.CharField(max_length=45, blank=True)
    route = models.CharField(max_length=60, blank=True, db_default="")  # "" is direct delivery
    site = models.CharField(max_length=60, blank=True, db_default="")
    mx_host = models.CharField(max_length=253, blank=True)
    mx_address = models.CharField(max_length=45, blank=True)
    tls_version = models.CharField(max_length=12, blank=True)
    smtp_code = models.PositiveSmallIntegerField(null=True)
    is_ambiguous = models.BooleanField(default=False, db_default=False)  # its fate is unknown
    reply = models.CharField(max_length=500, blank=True)
    bounce_class = models.CharField(max_length=40, blank=True)
    timings = models.JSONField(default=dict)  # seconds by phase
    # The id that a provider's API gave the message: its reports and its support know it by that
    # alone (Amazon SES replaces our Message-ID). A route's reply ends with it; direct delivery has
    # none and pays nothing.
    provider_id = models.GeneratedField(
        expression=Case(
            When(
                ~Q(route=""),
                then=NullIf(
                    Left(
                        Func(F("reply"), Value(PROVIDER_ID), Value(2), function="split_part"), 200
                    ),
                    Value(""),
                ),
            ),
            default=None,
        ),
        output_field=models.CharField(max_length=200, null=True),
        db_persist=True,
    )

    class Meta(HotTenantModel.Meta):
        indexes = [
            models.Index(fields=["message_id", "id"], name="attempt_timeline"),
            # "Which message is this?", asked with a provider's id.
            models.Index(
                fields=["provider_id"],
                condition=Q(provider_id__isnull=False),
                name="attempt_provider_id",
            ),
        ]


class StatBucket(HotTenantModel):
    """How many events of a kind a batch had in an hour at a site: a roll-up of the event log.

    `kind` is an EventKind, or one of the unique counts (`opened_unique`, `machine_opened_unique`,
    `clicked_unique`) that count messages instead of events. `detail` splits bounces by class.
    """

    batch_id = models.UUIDField()
    hour = models.DateTimeField()
    site = models.CharField(max_length=60, blank=True)
    kind = models.CharField(max_length=24)
    detail = models.CharField(max_length=40, blank=True)
    count = models.BigIntegerField(default=0)

    class Meta(HotTenantModel.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["batch_id", "hour", "site", "kind", "detail"], name="stat_unique"
            ),
        ]
        indexes = [models.Index(fields=["tenant", "hour"], name="stat_tenant_hour")]


class LinkStat(HotTenantModel):
    """Clicks on one link of a content in a batch: the top links of a report."""

    batch_id = models.UUIDField()
    link_index = models.PositiveSmallIntegerField()
    url = models.TextField()
    clicks = models.BigIntegerField(default=0)
    unique_clicks = models.BigIntegerField(default=0)

    class Meta(HotTenantModel.Meta):
        constraints = [
            models.UniqueConstraint(fields=["batch_id", "link_index"], name="linkstat_unique"),
        ]
