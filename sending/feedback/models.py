"""Mail that came in: bounces, complaints, unsubscribe mails, automatic replies."""

from __future__ import annotations

from django.db import models

from esp.lib.ids import new_id


class InboundMail(models.Model):
    """A mail as it was accepted at the inbound listener; stored before the 250, worked after.

    It belongs to no tenant until its address or content names a message: only workers see it.
    """

    class Status(models.TextChoices):
        NEW = "new", "New"
        DONE = "done", "Done"
        IGNORED = "ignored", "Ignored"
        FAILED = "failed", "Failed"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    received_at = models.DateTimeField(auto_now_add=True)
    mail_from = models.CharField(max_length=320, blank=True)
    rcpt_to = models.CharField(max_length=320)
    raw = models.BinaryField()
    status = models.CharField(max_length=8, choices=Status, default=Status.NEW)
    kind = models.CharField(max_length=20, blank=True)  # dsn, arf, unsubscribe, auto-reply
    message_id = models.UUIDField(null=True)
    problem = models.CharField(max_length=300, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)

    class Meta:
        indexes = [
            models.Index(fields=["id"], condition=models.Q(status="new"), name="inbound_new"),
        ]


class ProviderReport(models.Model):
    """What a provider reported of one message; stored before the 200, worked after.

    As with mail, only workers see it. The web process may add rows, not read them.
    """

    Status = InboundMail.Status

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    received_at = models.DateTimeField(auto_now_add=True)
    route_id = models.UUIDField()  # no constraint: the web removes routes and sees no reports
    key = models.CharField(max_length=64)  # the same in a repeated report
    said = models.JSONField()  # `routes.webhooks.types.Report`
    status = models.CharField(max_length=8, choices=InboundMail.Status, default="new")
    message_id = models.UUIDField(null=True)
    problem = models.CharField(max_length=300, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)

    class Meta:
        constraints = [
            # The same report twice is one.
            models.UniqueConstraint(fields=["route_id", "key"], name="report_once"),
        ]
        indexes = [
            models.Index(fields=["id"], condition=models.Q(status="new"), name="report_new"),
            # "What did the provider say of this message?", for support.
            models.Index(
                fields=["message_id"],
                condition=models.Q(message_id__isnull=False),
                name="report_message",
            ),
        ]
