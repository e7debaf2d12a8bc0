"""An importing process is killed for good (SIGKILL), and another one finishes its work exactly."""

from __future__ import annotations

import signal
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from sending.audience import importer
from sending.audience.models import Contact, Import, Subscription, SubscriptionChange
from sending.audience.services import imports as services
from tests import make
from tests.cast import make_cast
from tests.races import processes

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(280)]

_ROWS = 6_000
_PROGRAM = """
import sys, uuid
import django
django.setup()
from django.conf import settings
settings.MEDIA_ROOT = sys.argv[2]
from sending.audience import importer
importer.BATCH_ROWS = 100
importer.run(uuid.UUID(sys.argv[1]))
"""


def _wait_for_progress(job_id: uuid.UUID, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 110  # a busy machine takes long to load Django
    while not Import.unscoped.filter(pk=job_id, bytes_done__gt=0).exists():
        assert process.poll() is None, "it ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_import_is_finished_exactly(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path
    cast = make_cast()
    chosen = make.contact_list(cast.acme)
    lines = [f"person{n}@b.test" if n % 100 else "bad" for n in range(_ROWS)] + ["person1@b.test"]
    data = ("email\n" + "\n".join(lines) + "\n").encode()
    job = services.upload_import(
        actor=cast.alice_actor, file=SimpleUploadedFile("people.csv", data, "text/csv")
    )
    Import.unscoped.filter(pk=job.pk).update(
        status="running", contact_list=chosen, consent_text="They agreed."
    )
    process = processes.start(_PROGRAM, str(job.pk), str(tmp_path))
    try:
        _wait_for_progress(job.pk, process)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    job.refresh_from_db()
    assert process.returncode == -signal.SIGKILL
    assert job.status == "running", "it was killed before its end"
    assert 0 < job.bytes_done < job.size_bytes

    Import.unscoped.filter(pk=job.pk).update(heartbeat_at="2020-01-01T00:00:00Z")
    assert importer.run(job.pk)
    job.refresh_from_db()
    totals, good = job.counts["totals"], _ROWS - _ROWS // 100
    assert (totals["rows"], totals["valid"], totals["new"]) == (_ROWS + 1, good, good)
    assert (totals["bad"], totals["duplicates"]) == (_ROWS // 100, 1)
    for table in (Contact, Subscription, SubscriptionChange):
        assert table.unscoped.count() == good
    report = importer.upload_path(job.errors_path).read_bytes().splitlines()
    assert len(report) == 1 + _ROWS // 100 + 1
