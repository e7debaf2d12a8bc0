"""What was delivered and is not in the database yet, kept where a killed worker cannot lose it.

Results are written in batches, so between a server's 250 and the commit there are moments, or
minutes when the database is away. A line in a file needs no commit: the system keeps it when the
process is killed. Whoever claims next on this machine takes the lines of dead workers as results,
so that only a transaction that was open at the kill can be made twice.

Each worker holds a lock on its own file for as long as it lives; a file without a lock has no
owner any more.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import logging
import os
import uuid
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from sending.engine.ports import Lane, Outcome

log = logging.getLogger(__name__)

_ENDING = ".jsonl"
_LINE = orjson.OPT_APPEND_NEWLINE


class Journal:
    """The file of one worker. Raises OSError where `folder` cannot be written."""

    def __init__(self, folder: Path, worker: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{worker.replace(':', '_').replace('/', '_')}{_ENDING}"
        self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._is_torn = False  # the last line may have no end

    def note(self, deliveries: Iterable[tuple[uuid.UUID, Outcome]]) -> None:
        """Keep deliveries; one system call, whatever happens to this process afterwards.

        Where that is not possible (the disk is full), the database still gets the results.
        """
        lines = b"".join([orjson.dumps(_as_dict(*one), option=_LINE) for one in deliveries])
        if self._is_torn:
            lines = b"\n" + lines
        written = 0
        try:
            written = os.write(self._file, lines)
        except OSError as error:
            log.error("the journal %s cannot be written: %s", self.path, error)
        else:
            if written < len(lines):
                log.error("the journal %s could be written in part only", self.path)
        self._is_torn = written < len(lines)

    def clear(self) -> None:
        """Forget everything: it is in the database."""
        os.ftruncate(self._file, 0)

    def entries(self) -> dict[uuid.UUID, Outcome]:
        """Return the deliveries kept here, by message."""
        return _read(self.path)

    def close(self) -> None:
        """Give the file up: it goes when it is empty, and waits for a taker otherwise."""
        if os.fstat(self._file).st_size == 0:
            self.path.unlink(missing_ok=True)
        os.close(self._file)


@contextlib.contextmanager
def abandoned(folder: Path) -> Iterator[dict[uuid.UUID, Outcome]]:
    """Yield the deliveries of dead workers; their files go when the block ends well."""
    files: list[tuple[int, Path]] = []
    try:
        found: dict[uuid.UUID, Outcome] = {}
        for path in sorted(folder.glob(f"*{_ENDING}")):
            file = _take(path)
            if file is not None:
                files.append((file, path))
                found |= _read(path)
        yield found
        for _, path in files:
            path.unlink(missing_ok=True)
    finally:
        for file, _ in files:
            os.close(file)


def kept_anywhere(folder: Path, wanted: Collection[uuid.UUID]) -> dict[uuid.UUID, Outcome]:
    """Return which of `wanted` any worker of this machine, dead or alive, has delivered."""
    found: dict[uuid.UUID, Outcome] = {}
    for path in folder.glob(f"*{_ENDING}"):
        entries = _read(path)
        found |= {message_id: entries[message_id] for message_id in wanted if message_id in entries}
    return found


def _take(path: Path) -> int | None:
    """Return the file under our lock; None when its owner lives or another taker has been here."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file).st_nlink:  # else it was taken and removed before we had the lock
            return file
    except BlockingIOError:
        pass
    os.close(file)
    return None


def _read(path: Path) -> dict[uuid.UUID, Outcome]:
    """Return a file's deliveries; a last line that was cut short never had its delivery told."""
    found: dict[uuid.UUID, Outcome] = {}
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return found
    for line in lines:
        with contextlib.suppress(orjson.JSONDecodeError):
            values = orjson.loads(line)
            message_id = uuid.UUID(values.pop("message"))
            found[message_id] = _outcome(values)
    return found


def _as_dict(message_id: uuid.UUID, outcome: Outcome) -> dict[str, Any]:
    lane = outcome.lane
    return {
        "message": message_id,
        "at": outcome.at,
        "text": outcome.text[:500],
        "smtp_code": outcome.smtp_code,
        "enhanced_code": outcome.enhanced_code,
        "mx_host": outcome.mx_host,
        "mx_address": outcome.mx_address,
        "source_address": outcome.source_address,
        "tls_version": outcome.tls_version,
        "timings": dict(outcome.timings),
        "route": outcome.route,
        "lane": [lane.source_id, lane.site] if lane else None,
    }


def _outcome(values: dict[str, Any]) -> Outcome:
    values["at"] = dt.datetime.fromisoformat(values["at"])
    lane = values.pop("lane")
    return Outcome(
        kind="delivered",
        phase="body",
        classification="none/delivered",
        lane=Lane(*lane) if lane else None,
        **values,
    )
