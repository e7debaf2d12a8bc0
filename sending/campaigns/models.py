"""Campaigns: who gets what, from whom, when."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models

from sending.content.models import ContentKind
from tenants.scoping.models import HotTenantModel, TenantModel


class Campaign(TenantModel):
    """A mail to lists. `status` changes by conditional update only; the row count says who won."""

    PREFIX = "cmp"

    class Status(models.TextChoices):
        DRAFT = "draft", "Draft"
        SCHEDULED = "scheduled", "Scheduled"
        PREPARING = "preparing", "Preparing"
        SENDING = "sending", "Sending"
        PAUSED = "paused", "Paused"
        SENT = "sent", "Sent"
        CANCELLED = "cancelled", "Cancelled"
        FAILED = "failed", "Failed"

    name = models.CharField(max_length=150)
    status = models.CharField(max_length=10, choices=Status, default=Status.DRAFT)
    # To
    lists = models.ManyToManyField("sending.ContactList", related_name="+", blank=True)
    excluded_lists = models.ManyToManyField("sending.ContactList", related_name="+", blank=True)
    # From
    sender = models.ForeignKey("deliverability.Sender", on_delete=models.PROTECT, null=True)
    # Subject
    subject = models.CharField(max_length=300, blank=True)
    preview_text = models.CharField(max_length=200, blank=True)
    # Content
    content_kind = models.CharField(max_length=4, choices=ContentKind, default=ContentKind.HTML)
    body = models.TextField(blank=True)
    text_body = models.TextField(blank=True)
    template = models.ForeignKey("sending.Template", on_delete=models.SET_NULL, null=True)
    # Schedule and tracking
    scheduled_at = models.DateTimeField(null=True)
    track_opens = models.BooleanField(default=True)
    track_clicks = models.BooleanField(default=True)

    version = models.PositiveIntegerField(default=1)  # raised at every save: stale edits are told
    # Sending
    batch = models.ForeignKey("sending.Batch", on_delete=models.PROTECT, null=True)
    content = models.ForeignKey("sending.MessageContent", on_delete=models.PROTECT, null=True)
    frozen_list_ids = ArrayField(models.UUIDField(), default=list)
    frozen_excluded_ids = ArrayField(models.UUIDField(), default=list)
    prepare_cursor = models.UUIDField(null=True)  # the last contact of the last `CampaignPart`
    prepared_at = models.DateTimeField(null=True)  # every recipient has a message since
    recipients_total = models.BigIntegerField(default=0)  # expected, while preparing
    recipients_prepared = models.BigIntegerField(default=0)
    left_out = models.JSONField(default=dict)  # reason -> count, as it was at the start
    failure = models.CharField(max_length=500, blank=True)
    created_by = models.ForeignKey("tenants.User", on_delete=models.SET_NULL, null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta(TenantModel.Meta):
        indexes = [
            models.Index(fields=["tenant", "-id"], name="campaign_newest"),
            # The scheduler's look for due campaigns.
            models.Index(
                fields=["scheduled_at"],
                condition=models.Q(status="scheduled"),
                name="campaign_due",
            ),
        ]


class CampaignPart(HotTenantModel):
    """Recipients whose messages are made in one transaction: the contacts in (after, until].

    `made` is set by that very transaction; until then the part is open, and nothing of it exists.
    Counted parts are deleted: a campaign has as many rows as workers, and none in the end.
    """

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="parts")
    after = models.UUIDField(null=True)
    until = models.UUIDField()
    made = models.IntegerField(null=True)  # messages
    # Where in the log they stand; without one it was cut by the version before.
    span = models.ForeignKey(
        "sending.MessageSpan",
        on_delete=models.SET_NULL,
        null=True,
        db_index=False,
        related_name="+",
    )

    class Meta(HotTenantModel.Meta):
        pass
