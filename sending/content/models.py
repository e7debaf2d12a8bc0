"""Templates: content that is kept for use in campaigns and API messages."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Lower

from tenants.scoping.models import TenantModel


class ContentKind(models.TextChoices):
    """How the body of a mail is written."""

    HTML = "html", "HTML"
    MJML = "mjml", "MJML"
    TEXT = "text", "Plain text"


class Template(TenantModel):
    """A reusable mail. `compiled` is what rendering uses; it is made in a worker when saved."""

    PREFIX = "tpl"

    name = models.CharField(max_length=120)
    kind = models.CharField(max_length=4, choices=ContentKind, default=ContentKind.HTML)
    subject = models.CharField(max_length=300, blank=True)
    preview_text = models.CharField(max_length=200, blank=True)
    body = models.TextField(blank=True)
    text_body = models.TextField(blank=True)  # empty: made from the HTML
    version = models.PositiveIntegerField(default=1)  # two people editing: the second is told
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta(TenantModel.Meta):
        constraints = [
            models.UniqueConstraint("tenant", Lower("name"), name="template_name_unique"),
        ]


class CompiledVersion(TenantModel):
    """The result of compiling one content in a worker, kept by the hash of its source.

    Tenants' content meets native compilers only there: a crash takes a worker's task, never a web
    process. `problem` holds the sentence for people when the content cannot be compiled.
    """

    PREFIX = "cpl"

    source_hash = models.CharField(max_length=64)
    compiled = models.JSONField(null=True)  # `types.CompiledContent.to_json()`
    problem = models.CharField(max_length=500, blank=True)
    problem_line = models.IntegerField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    asked_at = models.DateTimeField(auto_now_add=True)  # when a worker was last called
    started_at = models.DateTimeField(null=True)  # a worker has it: no other takes it again
    source = models.JSONField(default=dict)  # `types.ContentSource`, what the worker compiles
    finished_at = models.DateTimeField(null=True)

    class Meta(TenantModel.Meta):
        constraints = [
            models.UniqueConstraint(fields=["tenant", "source_hash"], name="compiled_unique"),
        ]
        # The daily clearing of old ones.
        indexes = [models.Index(fields=["created_at"], name="compiled_oldest")]
