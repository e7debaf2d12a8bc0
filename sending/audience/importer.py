"""The run of an import: read, clean, stage, write, batch by batch, and go on where it stopped.

One transaction a batch holds the rows and the place behind them (byte offset, row number, counts,
the error file's length), so that a killed run loses nothing and repeats nothing. A claim keeps a
second worker out; a heartbeat tells the sweep when a claim's holder has died. A deploy ends a run
between two batches and gives the claim back, so that the next worker goes on at once.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import queue
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from esp.kit.stopping import is_stopping
from esp.lib.ids import new_id, to_public
from sending.audience import import_mapping, import_sql
from sending.audience.csv_cells import csv_line
from sending.audience.csv_source import Dialect, Row, read_rows
from sending.audience.import_rows import (
    REASON_DUPLICATE,
    BadRow,
    RowCleaner,
    SeenAddresses,
)
from sending.audience.models import AttributeDefinition, Import
from tenants.scoping.context import scope

log = logging.getLogger(__name__)

BATCH_ROWS: Final = 5_000
STALE_AFTER: Final = dt.timedelta(seconds=45)  # a batch takes well under a second
MAX_TRIES: Final = 5  # without any progress in between
MAX_ERRORS_IN_FILE: Final = 100_000


class ClaimLost(Exception):
    """Another worker has taken the import over."""


class Stopped(Exception):
    """This worker's process shall end; what is committed stays, another worker goes on."""


@dataclass(slots=True)
class _Batch:
    """Rows read together: what is good, what is not, and the place behind them."""

    good: list[str] = field(default_factory=list)  # lines for COPY
    bad: list[tuple[Row, str, str]] = field(default_factory=list)  # row, category, reason
    rows: int = 0
    end: int = 0
    number: int = 0


def upload_path(relative: str) -> Path:
    """Return where a file of an import stands on disk."""
    return Path(settings.MEDIA_ROOT) / relative


def check(import_id: uuid.UUID) -> bool:
    """Go through the file without writing contacts: counts and the file of bad rows.

    Returns whether this call finished it (False: somebody else holds it, it is not due, or this
    process shall end).
    """
    return _work(import_id, Import.Status.CHECKING, Import.Status.CHECKED)


def run(import_id: uuid.UUID) -> bool:
    """Write the file's rows into contacts and subscriptions; goes on where a killed run stopped.

    Returns whether this call finished it (False: somebody else holds it, it is not due, or this
    process shall end).
    """
    return _work(import_id, Import.Status.RUNNING, Import.Status.DONE)


def stale_imports(now: dt.datetime) -> list[tuple[uuid.UUID, str]]:
    """Return (id, status) of imports that wait for a worker or whose worker has died.

    Crosses tenants: for the scheduler's sweep only.
    """
    due = Import.unscoped.filter(status__in=[Import.Status.CHECKING, Import.Status.RUNNING])
    due = due.filter(Q(heartbeat_at=None) | Q(heartbeat_at__lt=now - STALE_AFTER))
    return list(due.order_by("id").values_list("id", "status")[:100])


def _work(import_id: uuid.UUID, working: str, finished: str) -> bool:
    claim = None if is_stopping() else _take_claim(import_id, working)
    if claim is None:
        return False
    job = Import.unscoped.get(pk=import_id)
    if int(job.cursor.get("tries", 0)) > MAX_TRIES:
        _finish(job, Import.Status.FAILED, "The import stopped several times at the same place.")
        return False
    try:
        _Run(job, claim, writes=working == Import.Status.RUNNING).go()
    except ClaimLost:
        log.info("import %s was taken over by another worker", import_id)
        return False
    except Stopped:
        _give_back(import_id, claim)
        return False
    except (FileNotFoundError, IsADirectoryError):
        _finish(job, Import.Status.FAILED, "The uploaded file is no longer on this server.")
        return False
    _finish(job, finished, "")
    return True


def _take_claim(import_id: uuid.UUID, status: str) -> uuid.UUID | None:
    now = timezone.now()
    claim = new_id()
    free = Q(claim=None) | Q(heartbeat_at=None) | Q(heartbeat_at__lt=now - STALE_AFTER)
    taken = Import.unscoped.filter(free, pk=import_id, status=status).update(
        claim=claim, heartbeat_at=now
    )
    if not taken:
        return None
    job = Import.unscoped.get(pk=import_id)
    cursor = {**job.cursor, "tries": int(job.cursor.get("tries", 0)) + 1}
    Import.unscoped.filter(pk=import_id, claim=claim).update(
        cursor=cursor, started_at=job.started_at or now
    )
    return claim


def _give_back(import_id: uuid.UUID, claim: uuid.UUID) -> None:
    """End a claim whose holder is well: due at once, and no try is counted."""
    mine = Import.unscoped.filter(pk=import_id, claim=claim)
    job = mine.first()
    if job is not None:
        mine.update(claim=None, heartbeat_at=None, cursor={**job.cursor, "tries": 0})
        log.info("import %s goes on in another worker", import_id)


def _finish(job: Import, status: str, problem: str) -> None:
    Import.unscoped.filter(pk=job.pk).update(
        status=status, problem=problem, claim=None, finished_at=timezone.now()
    )


def _stop_if_asked() -> None:
    if is_stopping():
        raise Stopped


class _Run:
    """One pass over the file by one worker."""

    def __init__(self, job: Import, claim: uuid.UUID, *, writes: bool) -> None:
        self.job = job
        self.claim = claim
        self.writes = writes
        self.path = upload_path(job.path)
        self.dialect = Dialect.from_json(job.dialect)
        with scope(job.tenant_id):
            kinds = dict(AttributeDefinition.objects.values_list("key", "kind"))
        self.cleaner = RowCleaner(self.dialect, import_mapping.resolve(job.mapping), kinds)
        self.target = import_sql.BatchTarget(
            tenant_id=job.tenant_id,
            list_id=job.contact_list_id,
            updates=job.on_duplicate == Import.OnDuplicate.UPDATE,
            source=f"import:{to_public('imp', job.pk)}",
            consent_text=job.consent_text,
        )
        self.counts: Counter[str] = Counter(job.counts.get("totals", {}))
        self.reasons: Counter[str] = Counter(job.counts.get("reasons", {}))
        self.seen = SeenAddresses()
        self.errors = _ErrorFile(
            upload_path(job.errors_path), int(job.cursor.get("errors_bytes", 0))
        )

    def go(self) -> None:
        """Work through the file from the stored place to its end."""
        self._remember_committed()
        with self.errors:
            for batch in _ahead(self._batches()):
                _stop_if_asked()
                self._commit(batch)

    def _remember_committed(self) -> None:
        """Read the committed part again, for the addresses that stood in it."""
        if not self.job.bytes_done:
            return
        for row in read_rows(self.path, self.dialect):
            if row.end > self.job.bytes_done:
                return
            if row.number % BATCH_ROWS == 0:
                _stop_if_asked()
            self._sort(row, _Batch())

    def _batches(self) -> Iterator[_Batch]:
        batch = _Batch()
        start, number = self.job.bytes_done, int(self.job.cursor.get("row", 0))
        for row in read_rows(self.path, self.dialect, offset=start, number=number):
            self._sort(row, batch)
            if batch.rows >= BATCH_ROWS:
                yield batch
                batch = _Batch()
        if batch.end:
            yield batch

    def _sort(self, row: Row, batch: _Batch) -> None:
        batch.end, batch.number = row.end, row.number
        if row.number == 1 and self.dialect.has_header:
            return
        batch.rows += 1
        try:
            clean = self.cleaner.clean(row)
        except BadRow as bad:
            batch.bad.append((row, bad.category, bad.reason))
            return
        if self.seen.add(clean.email_norm):
            batch.good.append(clean.copy_line())
        else:
            batch.bad.append((row, "duplicate", REASON_DUPLICATE))

    def _commit(self, batch: _Batch) -> None:
        """Write a batch and the place behind it in one transaction; again when it was raced."""
        for last in (False, False, True):
            try:
                with scope(self.job.tenant_id):
                    import_sql.prepare_transaction()
                    import_sql.stage(batch.good, self.target)
                    found = (
                        import_sql.write(self.target)
                        if self.writes
                        else import_sql.foresee(self.target)
                    )
                    self._count(batch, found)
                    self.errors.add(batch.bad)
                    self._keep_place(batch)
            except import_sql.Raced:
                if last:
                    raise
            else:
                return

    def _count(self, batch: _Batch, found: import_sql.BatchCounts) -> None:
        categories = Counter(category for _, category, _ in batch.bad)
        self.counts.update(
            rows=batch.rows,
            valid=len(batch.good),
            bad=categories.total() - categories["duplicate"],
            duplicates=categories["duplicate"],
            new=found.new,
            known=found.known,
            already_on_list=found.on_list,
            unsubscribed=found.unsubscribed,
            unconfirmed=found.unconfirmed,
            suppressed=found.suppressed,
        )
        self.reasons.update(+categories)
        if self.writes:
            self.counts.update(updated=found.updated, subscribed=found.subscribed)

    def _keep_place(self, batch: _Batch) -> None:
        place = {"row": batch.number, "errors_bytes": self.errors.size, "tries": 0}
        kept = Import.unscoped.filter(pk=self.job.pk, claim=self.claim).update(
            bytes_done=batch.end,
            cursor=place,
            counts={"totals": dict(self.counts), "reasons": dict(self.reasons)},
            heartbeat_at=timezone.now(),
        )
        if not kept:
            raise ClaimLost


class _ErrorFile:
    """The CSV of bad rows: row number, reason, and the cells as they stood (made harmless)."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        self._lines = 0

    def __enter__(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("r+b" if self.size and self.path.exists() else "w+b")
        self._file.truncate(self.size)
        self._file.seek(0)
        self._lines = sum(1 for _ in self._file)
        self._file.seek(self.size)
        if not self.size:
            # Spreadsheets take a file for UTF-8 by this mark only.
            self._write("\ufeff" + csv_line(["row", "reason", "cells"]))

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, bad: list[tuple[Row, str, str]]) -> None:
        """Append rows, and have them on disk when this returns."""
        for row, _, reason in bad:
            if self._lines > MAX_ERRORS_IN_FILE:
                break
            self._write(csv_line([row.number, reason, *row.cells]))
        if bad:
            self._file.flush()
            os.fsync(self._file.fileno())

    def _write(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        self._file.write(data)
        self.size += len(data)
        self._lines += 1


_END: Final = object()


def _ahead(batches: Iterator[_Batch]) -> Iterator[_Batch]:
    """Yield batches that a thread prepares two ahead, while the database works on this one."""
    waiting: queue.Queue[object] = queue.Queue(maxsize=2)
    stopped = threading.Event()

    def produce() -> None:
        try:
            for batch in batches:
                if not _put(waiting, batch, stopped):
                    return
            _put(waiting, _END, stopped)
        except Exception as error:  # raised again where the batches are taken
            _put(waiting, error, stopped)

    thread = threading.Thread(target=produce, name="import-reader", daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not _END:
            if isinstance(item, Exception):
                raise item
            assert isinstance(item, _Batch)
            yield item
    finally:
        stopped.set()
        thread.join()


def _put(waiting: queue.Queue[object], item: object, stopped: threading.Event) -> bool:
    """Wait until there is room; tell whether somebody still takes the items."""
    while not stopped.is_set():
        try:
            waiting.put(item, timeout=0.2)
        except queue.Full:
            continue
        return True
    return False
