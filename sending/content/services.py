"""Compile tenants' content in a worker, and keep the result by the hash of its source."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
import uuid
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from esp.kit.jobs import enqueue_on_commit
from sending.content import jobs
from sending.content.compiler import compile_content
from sending.content.errors import ContentError
from sending.content.models import CompiledVersion
from sending.content.types import COMPILED_FORMAT, CompiledContent, ContentSource
from tenants.scoping.context import scope

# A compile takes milliseconds; one that has no result by then took its worker with it.
GIVE_UP_AFTER = dt.timedelta(seconds=30)
# A job that no worker has begun by then may be lost: the broker is asked again.
ASK_AGAIN_AFTER = dt.timedelta(seconds=15)
KEEP_VERSIONS = dt.timedelta(days=30)
_CRASHED = (
    "This content could not be compiled: it is too complex or not well-formed. "
    "Simplify it and try again."
)


def source_hash(source: ContentSource, *, footer: bool) -> str:
    """Return the key under which the compiled form of `source` is kept."""
    value = {"format": COMPILED_FORMAT, "footer": footer, **dataclasses.asdict(source)}
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def request_compiled(*, source: ContentSource, footer: bool) -> CompiledVersion:
    """Return the compiled version of `source` for the tenant in scope, asking a worker for it.

    The result may be unfinished (`finished_at` is None): look again a moment later.
    """
    key = source_hash(source, footer=footer)
    version = CompiledVersion.objects.filter(source_hash=key).first()
    if version is not None:
        return look_after(version)
    try:
        with transaction.atomic():
            version = CompiledVersion(
                source_hash=key, source={**dataclasses.asdict(source), "footer": footer}
            )
            version.save()
    except IntegrityError:
        version = CompiledVersion.objects.get(source_hash=key)
    enqueue_on_commit(jobs.COMPILE, str(version.tenant_id), str(version.pk))
    return version


def look_after(version: CompiledVersion) -> CompiledVersion:
    """Return `version`, closed when its worker died over it, asked for again when none took it."""
    now = timezone.now()
    if is_lost(version):
        version.problem = _CRASHED
        version.finished_at = now
        version.save(update_fields=["problem", "finished_at"])
    elif version.started_at is None and now - version.asked_at > ASK_AGAIN_AFTER:
        CompiledVersion.objects.filter(pk=version.pk).update(asked_at=now)
        enqueue_on_commit(jobs.COMPILE, str(version.tenant_id), str(version.pk))
    return version


def is_lost(version: CompiledVersion) -> bool:
    """Tell whether the worker that compiled `version` died over it."""
    if version.finished_at is not None or version.started_at is None:
        return False
    return timezone.now() - version.started_at > GIVE_UP_AFTER


def compile_version(*, tenant_id: uuid.UUID, version_id: uuid.UUID) -> None:
    """Compile one version; for workers.

    A version that has its result, or that another worker has begun, is left alone. The mark of the
    beginning is committed before the compiler runs: it must outlive this process.
    """
    with scope(tenant_id):
        waiting = CompiledVersion.objects.filter(pk=version_id, started_at=None, finished_at=None)
        if not waiting.update(started_at=timezone.now()):
            return
        values = dict(CompiledVersion.objects.values_list("source", flat=True).get(pk=version_id))
    footer = bool(values.pop("footer"))
    result: dict[str, Any] = {}
    try:
        compiled = compile_content(ContentSource(**values), footer=footer)
        result["compiled"] = json.loads(compiled.to_json())
    except ContentError as error:
        result["problem"] = error.message[:500]
        result["problem_line"] = error.line
    with scope(tenant_id):
        CompiledVersion.objects.filter(pk=version_id).update(finished_at=timezone.now(), **result)


def forget_versions() -> int:
    """Delete compiled versions that are older than 30 days; return how many. For workers.

    They are a cache: what is still in use is compiled again when it is next asked for.
    """
    before = timezone.now() - KEEP_VERSIONS
    deleted, _ = CompiledVersion.unscoped.filter(created_at__lt=before).delete()
    return deleted


def compiled_of(version: CompiledVersion) -> CompiledContent:
    """Return the compiled content; raises ContentError when there is none, saying why."""
    if version.compiled is None:
        if version.finished_at is None:
            raise ContentError("The content is being compiled. Try again in a moment.")
        raise ContentError(version.problem, line=None)
    return CompiledContent.from_json(json.dumps(version.compiled))
