"""The content room's tasks."""

from __future__ import annotations

import uuid

from celery import shared_task

from sending.content import jobs
from sending.content.services import compile_version, forget_versions


# Acknowledged before it runs: content that kills its worker must not come back for the next one.
@shared_task(name=jobs.COMPILE, acks_late=False, time_limit=20)
def compile_content(tenant_id: str, version_id: str) -> None:
    """Compile one version of a content."""
    compile_version(tenant_id=uuid.UUID(tenant_id), version_id=uuid.UUID(version_id))


@shared_task(name=jobs.FORGET_VERSIONS, time_limit=600)
def forget_old_versions() -> None:
    """Delete compiled versions that nobody will ask for any more."""
    forget_versions()
