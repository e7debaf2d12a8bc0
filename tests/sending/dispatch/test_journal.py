"""What was delivered and not recorded is recorded later, by whoever comes, and not sent again."""

from __future__ import annotations

import datetime as dt
import os
import resource
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from sending.dispatch.journal import Journal, abandoned, kept_anywhere
from sending.dispatch.worker import DeliveryWorker, journal_folder
from sending.engine.ports import Lane, Outcome
from sending.messages.models import Message, QueueEntry
from tests.sending.dispatch.conftest import World
from tests.sending.dispatch.test_delivery import queue, run_until_empty, statuses


def delivery(text: str = "2.0.0 Taken") -> Outcome:
    return Outcome(
        kind="delivered",
        phase="body",
        classification="none/delivered",
        text=text,
        at=timezone.now(),
        smtp_code=250,
        mx_host="mx.plainmail.test",
        timings={"body": 0.25},
        lane=Lane("s1", "plainmail"),
    )


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, settings: Any) -> Path:
    settings.DATA_DIR = tmp_path
    return journal_folder()


def test_what_is_noted_is_read_back_whole(folder: Path) -> None:
    journal, message_id, outcome = Journal(folder, "host:1:a"), uuid.uuid4(), delivery()
    journal.note([(message_id, outcome)])
    assert journal.entries() == {message_id: outcome}
    journal.clear()
    assert journal.entries() == {}
    journal.close()
    assert list(folder.iterdir()) == []


def test_a_line_that_was_cut_short_is_left_out(folder: Path) -> None:
    journal, message_id = Journal(folder, "host:1:a"), uuid.uuid4()
    journal.note([(message_id, delivery()), (uuid.uuid4(), delivery())])
    os.truncate(journal.path, journal.path.stat().st_size - 20)
    assert list(journal.entries()) == [message_id]
    journal.close()


def test_a_full_disk_does_not_undo_a_delivery(folder: Path) -> None:
    journal = Journal(folder, "host:1:a")
    os.dup2(os.open("/dev/full", os.O_WRONLY), journal._file)
    journal.note([(uuid.uuid4(), delivery())])
    os.close(journal._file)


def test_what_comes_after_a_line_that_did_not_fit_is_whole(folder: Path) -> None:
    journal, first, last = Journal(folder, "host:1:a"), uuid.uuid4(), uuid.uuid4()
    journal.note([(first, delivery())])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.path.stat().st_size + 20, limits[1]))
    try:
        journal.note([(uuid.uuid4(), delivery())])  # 20 octets of it
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    journal.note([(last, delivery())])
    assert list(journal.entries()) == [first, last]
    journal.close()


def test_the_living_keep_their_files(folder: Path) -> None:
    journal, message_id = Journal(folder, "host:1:a"), uuid.uuid4()
    journal.note([(message_id, delivery())])
    with abandoned(folder) as found:
        assert found == {}
    assert list(kept_anywhere(folder, [message_id, uuid.uuid4()])) == [message_id]
    journal.close()


def test_a_dead_workers_file_is_taken_once_and_stays_when_recording_fails(folder: Path) -> None:
    code = (
        "import os, sys, uuid, datetime as dt; from pathlib import Path\n"
        "from sending.dispatch.journal import Journal\n"
        "from sending.engine.ports import Outcome\n"
        "journal = Journal(Path(sys.argv[1]), 'host:2:b')\n"
        "journal.note([(uuid.UUID(int=7), Outcome('delivered', 'body', 'none/delivered', 'OK', "
        "dt.datetime.now(dt.UTC)))])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=False, cwd=settings.ROOT)
    with pytest.raises(ZeroDivisionError), abandoned(folder):
        raise ZeroDivisionError
    with abandoned(folder) as found:
        assert list(found) == [uuid.UUID(int=7)]
    with abandoned(folder) as found:
        assert found == {}


def test_a_message_that_a_worker_delivered_and_did_not_record_is_not_sent_again(
    world: World, worker: DeliveryWorker, folder: Path
) -> None:
    batch = queue(world, ["ada@plainmail.test", "bo@plainmail.test"])
    taken, other = QueueEntry.objects.order_by("message_id").values_list("message_id", flat=True)
    dead = Journal(folder, "host:3:c")
    dead.note([(taken, delivery("2.0.0 Taken by the first"))])
    now = timezone.now()
    QueueEntry.objects.filter(message_id=taken).update(
        worker="host:3:c", due_at=now - dt.timedelta(seconds=1)
    )
    os.close(dead._file)  # its process is gone
    run_until_empty(worker, batch)
    assert set(statuses(batch).values()) == {"delivered"}
    message = Message.unscoped.get(pk=taken)
    assert (message.last_reply, message.attempts) == ("2.0.0 Taken by the first", 1)
    seen = [fact.message_id for fact in world.client.ledger(kinds=["delivered"])]
    assert len(seen) == 1
    assert Message.unscoped.get(pk=other).last_reply != message.last_reply


def test_a_lease_that_ran_out_under_a_living_worker_is_not_sent_again(
    world: World, worker: DeliveryWorker, folder: Path
) -> None:
    batch = queue(world, ["ada@plainmail.test"])
    (taken,) = QueueEntry.objects.values_list("message_id", flat=True)
    alive = Journal(folder, "host:4:d")
    alive.note([(taken, delivery())])
    QueueEntry.objects.update(worker="host:4:d", due_at=timezone.now() - dt.timedelta(seconds=1))
    run_until_empty(worker, batch)
    assert set(statuses(batch).values()) == {"delivered"}
    assert list(world.client.ledger(kinds=["delivered"])) == []
    alive.close()


def test_a_slice_that_ends_well_leaves_nothing_in_its_journal(
    world: World, worker: DeliveryWorker, folder: Path
) -> None:
    batch = queue(world, ["ada@plainmail.test"])
    run_until_empty(worker, batch)
    assert all(path.stat().st_size == 0 for path in folder.iterdir())
    assert connection.in_atomic_block is False
