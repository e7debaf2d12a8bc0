"""Background doors of the audience: imports."""

from __future__ import annotations

import uuid

from celery import shared_task
from django.utils import timezone

from esp.kit.jobs import enqueue_now
from esp.kit.stopping import is_stopping
from sending.audience import import_files, importer, jobs
from sending.audience.models import Import


@shared_task(name=jobs.CHECK_IMPORT, time_limit=6 * 3600)
def check_import(import_id: str) -> None:
    """Try an import without writing."""
    if not importer.check(uuid.UUID(import_id)) and is_stopping():
        enqueue_now(jobs.CHECK_IMPORT, import_id)  # it wakes whoever comes next


@shared_task(name=jobs.RUN_IMPORT, time_limit=6 * 3600)
def run_import(import_id: str) -> None:
    """Run an import to its end."""
    if not importer.run(uuid.UUID(import_id)) and is_stopping():
        enqueue_now(jobs.RUN_IMPORT, import_id)  # it wakes whoever comes next


@shared_task(name=jobs.RESUME_IMPORTS, time_limit=60)
def resume_imports() -> None:
    """Wake workers for imports whose wake-up was lost or whose worker has died."""
    for import_id, status in importer.stale_imports(timezone.now()):
        due = jobs.CHECK_IMPORT if status == Import.Status.CHECKING else jobs.RUN_IMPORT
        enqueue_now(due, str(import_id))


@shared_task(name=jobs.FORGET_IMPORT_FILES, time_limit=3600)
def forget_import_files() -> None:
    """Delete the files of imports that nothing has happened to for a month."""
    import_files.forget_old(timezone.now())
