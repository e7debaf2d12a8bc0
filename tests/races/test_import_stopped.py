"""A deploy (SIGTERM) ends an import between two batches; the next worker finishes it exactly."""

from __future__ import annotations

import signal
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from esp.celery import app
from esp.kit.stopping import ask_to_stop, forget_to_stop
from esp.kit.valkey import client
from sending.audience import importer, jobs
from sending.audience.models import Contact, Import, Subscription
from sending.audience.services import imports as services
from tests import make
from tests.cast import make_cast
from tests.races import processes

pytestmark = pytest.mark.django_db(transaction=True)

_ROWS = 8_000
# In batches so small that there are many places to stop at.
_SMALL_BATCHES = """
import django
django.setup()
from django.conf import settings
settings.MEDIA_ROOT = {media!r}
from sending.audience import importer
importer.BATCH_ROWS = 100
"""


@pytest.fixture
def job(settings: Any, tmp_path: Path) -> Import:
    """An import of Acme's that runs, and that nobody works on yet."""
    settings.MEDIA_ROOT = tmp_path
    cast = make_cast()
    lines = [f"person{n}@b.test" if n % 100 else "bad" for n in range(_ROWS)] + ["person1@b.test"]
    data = ("email\n" + "\n".join(lines) + "\n").encode()
    job = services.upload_import(
        actor=cast.alice_actor, file=SimpleUploadedFile("people.csv", data, "text/csv")
    )
    Import.unscoped.filter(pk=job.pk).update(
        status="running", contact_list=make.contact_list(cast.acme), consent_text="They agreed."
    )
    return job


def _is_under_way(job_id: uuid.UUID) -> bool:
    return Import.unscoped.filter(pk=job_id, bytes_done__gt=0).exists()


@pytest.mark.timeout(280)
def test_an_import_stops_at_sigterm_and_goes_on_at_once_in_the_next_worker(
    job: Import, tmp_path: Path
) -> None:
    client().delete("imports")
    log = tmp_path / "worker.log"
    before = _SMALL_BATCHES.format(media=str(tmp_path))
    worker = processes.start_celery(log, queue="imports", before=before)
    try:
        app.send_task(jobs.RUN_IMPORT, [str(job.pk)])
        end = time.monotonic() + 60
        while not _is_under_way(job.pk):
            assert time.monotonic() < end, log.read_text(errors="replace")[-2000:]
            time.sleep(0.01)
        seconds = processes.seconds_to_end(worker, signal.SIGTERM)
    finally:
        processes.kill(worker)
    told = log.read_text(errors="replace")[-2000:]
    job.refresh_from_db()
    assert job.status == "running", f"it was over before the signal: nothing is shown\n{told}"
    assert 0 < job.bytes_done < job.size_bytes
    assert (job.claim, job.heartbeat_at) == (None, None), "the next one may begin at once"
    assert seconds < 10, told
    assert client().llen("imports") == 1, "the next worker is woken"
    client().delete("imports")

    assert importer.run(job.pk)
    job.refresh_from_db()
    totals, good = job.counts["totals"], _ROWS - _ROWS // 100
    assert (totals["rows"], totals["valid"], totals["new"]) == (_ROWS + 1, good, good)
    assert (totals["bad"], totals["duplicates"]) == (_ROWS // 100, 1)
    assert Contact.unscoped.count() == Subscription.unscoped.count() == good


def test_deploy_after_deploy_costs_an_import_none_of_its_tries(job: Import) -> None:
    for _ in range(importer.MAX_TRIES + 2):
        claim = importer._take_claim(job.pk, "running")
        assert claim is not None
        importer._give_back(job.pk, claim)
    assert importer.run(job.pk)


def test_a_process_that_shall_end_takes_no_import(job: Import) -> None:
    ask_to_stop()
    try:
        assert not importer.run(job.pk)
    finally:
        forget_to_stop()
    job.refresh_from_db()
    assert (job.claim, job.started_at) == (None, None)
