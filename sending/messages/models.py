"""Messages, what they contain, and the queue of record.

`Message` is the log (partitioned by month through its UUIDv7 key); `QueueEntry` is narrow and hot
and goes when the message is final. A claim pushes `due_at` to the end of the lease: an entry whose
worker died is simply due again.
"""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Func, Q

from esp.lib.ids import to_public
from tenants.scoping.models import HotTenantModel, TenantModel


class Stream(models.TextChoices):
    """The two kinds of mail, kept apart from the API to the source IP."""

    TRANSACTIONAL = "transactional", "Transactional"
    BROADCAST = "broadcast", "Broadcast"


class Batch(TenantModel):
    """Messages with one switch: a campaign, or a tenant's API messages of one stream."""

    PREFIX = "bat"

    class Status(models.TextChoices):
        RUNNING = "running", "Running"
        PAUSED = "paused", "Paused"
        CANCELLED = "cancelled", "Cancelled"
        DONE = "done", "Done"

    class Kind(models.TextChoices):
        CAMPAIGN = "campaign", "Campaign"
        API = "api", "API"

    kind = models.CharField(max_length=8, choices=Kind)
    stream = models.CharField(max_length=16, choices=Stream)
    label = models.CharField(max_length=200)
    status = models.CharField(max_length=10, choices=Status, default=Status.RUNNING)
    priority = models.SmallIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    class Meta(TenantModel.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "stream"], condition=Q(kind="api"), name="batch_api_once"
            ),
        ]
        indexes = [
            # The claim's turns: running batches of a stream.
            models.Index(fields=["stream"], condition=Q(status="running"), name="batch_turns"),
        ]

    @property
    def public_id(self) -> str:
        """The form that users see."""
        return to_public("bat", self.pk)


class MessageContent(TenantModel):
    """What a set of messages share: the frozen, compiled content and the sender."""

    domain = models.ForeignKey("deliverability.Domain", on_delete=models.PROTECT, db_index=False)
    from_name = models.CharField(max_length=100, blank=True)
    from_email = models.EmailField(max_length=254)
    reply_to = models.EmailField(max_length=254, blank=True)
    compiled = models.JSONField()  # `content.types.CompiledContent`
    headers = models.JSONField(default=dict)  # extra headers of the API
    attachments = models.JSONField(default=list)  # name, content type, path or base64, cid
    track_opens = models.BooleanField(default=False)
    track_clicks = models.BooleanField(default=False)
    list_ids = ArrayField(models.UUIDField(), default=list)  # what one-click unsubscribe leaves
    # A test that a member sent: its unsubscribe links show what readers see, and change nothing.
    is_test = models.BooleanField(default=False, db_default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        pass


class Message(HotTenantModel):
    """One message to one recipient."""

    PREFIX = "msg"

    class Status(models.TextChoices):
        QUEUED = "queued", "Queued"
        DEFERRED = "deferred", "Deferred"
        DELIVERED = "delivered", "Delivered"
        BOUNCED = "bounced", "Bounced"
        EXPIRED = "expired", "Expired"
        DROPPED = "dropped", "Not sent"
        CANCELLED = "cancelled", "Cancelled"

    @property
    def known_site(self) -> str:
        """The mailbox provider, or the recipient's domain while delivery has not said.

        A reader can be faster than the batch that writes the result of the delivery.
        """
        return self.site or self.recipient.rpartition("@")[2][:60]

    FINAL = (
        Status.DELIVERED,
        Status.BOUNCED,
        Status.EXPIRED,
        Status.DROPPED,
        Status.CANCELLED,
    )

    # In Django no constraint to partitioned or hot tables: the rows are written by COPY and unnest.
    batch = models.ForeignKey(
        Batch, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    content = models.ForeignKey(
        MessageContent,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )
    contact_id = models.UUIDField(null=True)
    stream = models.CharField(max_length=16, choices=Stream)
    recipient = models.CharField(max_length=254)
    recipient_name = models.CharField(max_length=200, blank=True)
    variables = models.JSONField(default=dict)  # what the content is filled with
    tags = ArrayField(models.CharField(max_length=64), default=list)
    metadata = models.JSONField(default=dict)
    status = models.CharField(max_length=10, choices=Status, default=Status.QUEUED)
    site = models.CharField(max_length=60, blank=True)  # the mailbox provider, once known
    attempts = models.PositiveSmallIntegerField(default=0)
    bounce_class = models.CharField(max_length=40, blank=True)  # "hard/invalid-recipient", …
    last_reply = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    final_at = models.DateTimeField(null=True)
    # Later facts: they do not change the status, except a late bounce.
    opened_at = models.DateTimeField(null=True)
    machine_opened_at = models.DateTimeField(null=True)
    clicked_at = models.DateTimeField(null=True)
    complained_at = models.DateTimeField(null=True)
    unsubscribed_at = models.DateTimeField(null=True)
    bounced_late_at = models.DateTimeField(null=True)
    # Made by parts, its id in a `MessageSpan`: no index but the primary key holds it, because
    # the three below would cost as much as the row. Others come one by one. The default is for
    # programs of the version before.
    is_spanned = models.BooleanField(default=False, db_default=False)

    class Meta(HotTenantModel.Meta):
        # Both kinds together are found by `finding`. No column that delivery changes is in an
        # index: each change would write them all again.
        indexes = [
            # Message list of the tenant, newest first: read backwards. Ids come in order, and an
            # index that falls would split its pages half and half for them.
            models.Index(
                fields=["tenant", "id"], condition=Q(is_spanned=False), name="message_by_tenant"
            ),
            # A batch's recipients.
            models.Index(
                fields=["batch", "id"], condition=Q(is_spanned=False), name="message_by_batch"
            ),
            # "What did this address get?" Four bytes cost a third of an address.
            models.Index(
                Func(F("recipient"), function="hashtext"),
                condition=Q(is_spanned=False),
                name="message_by_address",
            ),
        ]

    @property
    def public_id(self) -> str:
        """The form that users see."""
        return to_public("msg", self.pk)


class MessageSpan(HotTenantModel):
    """The ids of one part of a batch, in order of its addresses' hashes (`spans`).

    Slot n, of a microsecond, begins at `base_us` + n; spans do not overlap. One row stands for tens
    of thousands of messages, and goes with the last of them.
    """

    batch = models.ForeignKey(
        Batch, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    base_us = models.BigIntegerField()  # microseconds since 1970
    slots = models.IntegerField()  # a power of two
    first_id = models.UUIDField()
    last_id = models.UUIDField()

    class Meta(HotTenantModel.Meta):
        indexes = [
            # A tenant's messages, newest first.
            models.Index(fields=["tenant", "last_id"], name="span_by_tenant"),
            # A batch's, in order.
            models.Index(fields=["batch", "last_id"], name="span_by_batch"),
            # The last of all, behind which the next one begins; and those that are over.
            models.Index(fields=["last_id"], name="span_end"),
        ]


class QueueEntry(models.Model):
    """A message that waits. The row goes when the message is final."""

    message_id = models.UUIDField(primary_key=True)
    tenant_id = models.UUIDField()
    batch_id = models.UUIDField()
    domain = models.CharField(max_length=253)  # of the recipient, A-label
    due_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    attempts = models.PositiveSmallIntegerField(default=0)
    worker = models.CharField(max_length=64, blank=True)  # holds the lease until due_at
    reason = models.CharField(max_length=300, blank=True)  # why it waits, in plain words
    hold = models.CharField(
        max_length=16, blank=True, db_default=""
    )  # a limit of ours: `engine.ports.Refusal`
    site = models.CharField(max_length=60, blank=True, db_default="")  # once known
    source_id = models.CharField(
        max_length=36, blank=True, db_default=""
    )  # of the lane that held it last
    # The node that may take it at once, whenever it is due: those before it have no room.
    passed_to = models.CharField(max_length=100, blank=True, db_default="")

    class Meta:
        indexes = [
            # The claim: due entries of a batch, oldest first.
            models.Index(fields=["batch_id", "due_at"], name="queue_due"),
            # Depth and age by lane, for operators: what was tried or held at a site.
            models.Index(fields=["site", "source_id"], condition=~Q(site=""), name="queue_by_site"),
            # "Deferred" on the live page.
            models.Index(fields=["batch_id"], condition=Q(attempts__gt=0), name="queue_deferred"),
            # What a node may take that others have no room for.
            models.Index(
                fields=["batch_id", "passed_to"], condition=~Q(passed_to=""), name="queue_passed"
            ),
        ]


class IdempotencyKey(TenantModel):
    """The answer that a key got, kept for 24 hours; a second request with it gets the same."""

    key = models.CharField(max_length=255)
    request_hash = models.CharField(max_length=64)
    status_code = models.PositiveSmallIntegerField(null=True)
    body = models.JSONField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        constraints = [
            models.UniqueConstraint(fields=["tenant", "key"], name="idempotency_unique"),
        ]
