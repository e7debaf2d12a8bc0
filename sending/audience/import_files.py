"""Files of imports do not stay: they are lists of people, and each import has two."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Final

from django.db.models.functions import Coalesce

from sending.audience.importer import upload_path
from sending.audience.models import Import

KEPT_FOR: Final = dt.timedelta(days=30)
_WORKING: Final = (Import.Status.CHECKING, Import.Status.RUNNING)
_CHUNK: Final = 500


def forget_old(now: dt.datetime) -> int:
    """Delete uploaded files and files of bad rows of imports without change for 30 days.

    Imports keep their counts; one that was never run can no longer be. Crosses tenants; returns how
    many files it deleted.
    """
    deleted, after = 0, uuid.UUID(int=0)
    due = Import.unscoped.exclude(status__in=_WORKING).annotate(
        touched_at=Coalesce("finished_at", "heartbeat_at", "created_at")
    )
    due = due.filter(touched_at__lt=now - KEPT_FOR).exclude(path="").order_by("id")
    while jobs := list(due.filter(pk__gt=after)[:_CHUNK]):
        for job in jobs:
            deleted += _delete(job.path) + _delete(job.errors_path)
            open_states = [Import.Status.UPLOADED, Import.Status.CHECKED]
            Import.unscoped.filter(pk=job.pk, status__in=open_states).update(
                status=Import.Status.FAILED,
                problem="The file was deleted after 30 days. Upload it again.",
            )
        Import.unscoped.filter(pk__in=[job.pk for job in jobs]).update(path="", errors_path="")
        after = jobs[-1].pk
    return deleted


def _delete(relative: str) -> int:
    if not relative:
        return 0
    path = upload_path(relative)
    if not path.is_file():
        return 0
    path.unlink()
    return 1
