"""What the mailboxes hold, and what happened to each recipient: one SQLite file.

`message` has every accepted copy with its raw octets; `fact` is the append-only ledger. Writes are
gathered while one batch is being written and then written together, so a reply to a sender always
comes after its message is in the file, and a busy simulator still commits few times a second.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from esp.simulator.authentication import AuthVerdict

T = TypeVar("T")

SCHEMA = """
CREATE TABLE IF NOT EXISTS message (
    id INTEGER PRIMARY KEY,
    provider TEXT NOT NULL, recipient TEXT NOT NULL, mail_from TEXT NOT NULL,
    message_id TEXT NOT NULL, subject TEXT NOT NULL, sender TEXT NOT NULL,
    raw BLOB NOT NULL, authentication TEXT, received_at REAL NOT NULL,
    source_ip TEXT NOT NULL, tls TEXT NOT NULL, copy INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS message_copies ON message (message_id, recipient);
CREATE INDEX IF NOT EXISTS message_by_recipient ON message (recipient, id);
CREATE TABLE IF NOT EXISTS fact (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL, kind TEXT NOT NULL, provider TEXT NOT NULL, recipient TEXT NOT NULL,
    mail_from TEXT NOT NULL, message_id TEXT NOT NULL, domain TEXT NOT NULL,
    code INTEGER, text TEXT NOT NULL, stored_id INTEGER
);
CREATE INDEX IF NOT EXISTS fact_by_domain ON fact (domain, kind);
"""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One accepted copy, on its way into the store."""

    provider: str
    recipient: str
    mail_from: str
    message_id: str
    subject: str
    sender: str
    raw: bytes
    authentication: AuthVerdict | None
    received_at: float
    source_ip: str
    tls: str
    # False when the provider breaks off instead of saying that it has the message.
    is_acknowledged: bool = True


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a copy stands in the store; `copy` counts from 1 per Message-ID and recipient."""

    id: int
    copy: int


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of the ledger. Kinds: delivered, unknown_fate, refused, deferred, complaint_sent,
    late_bounce_sent, autoreply_sent, outgoing_failed, open, click, machine_open, machine_click,
    unsubscribe, fetch_failed."""

    at: float
    kind: str
    provider: str
    recipient: str
    mail_from: str
    message_id: str = ""
    code: int | None = None
    text: str = ""
    stored_id: int | None = None


def domain_of(fact: Fact) -> str:
    """The sender's domain: that of the Message-ID or, where none was seen, of the return path."""
    return (fact.message_id or fact.mail_from).rstrip(">").rpartition("@")[2].lower()


class MailStore:
    """The file, with one thread that writes and one that reads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="simulator-write")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="simulator-read")
        self._write_db: sqlite3.Connection | None = None
        self._read_db: sqlite3.Connection | None = None
        self._pending: list[tuple[Delivery | Fact, asyncio.Future[Stored | None]]] = []
        self._flusher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open or create the file. Raises sqlite3.Error or OSError when it cannot."""
        loop = asyncio.get_running_loop()
        self._write_db = await loop.run_in_executor(self._writer, self._open)
        self._read_db = await loop.run_in_executor(self._reader, self._open)

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA journal_mode=WAL")
        # The simulated world may forget its last second in a power cut; a crash of the process
        # loses nothing.
        db.execute("PRAGMA synchronous=OFF")
        db.executescript(SCHEMA)
        return db

    async def stop(self) -> None:
        if self._flusher:
            await self._flusher
        loop = asyncio.get_running_loop()
        for db, executor in ((self._write_db, self._writer), (self._read_db, self._reader)):
            if db is not None:
                await loop.run_in_executor(executor, db.close)
            executor.shutdown(wait=False)

    async def add(self, delivery: Delivery) -> Stored:
        """Store one copy with its fact; returns when it is in the file."""
        stored = await self._enqueue(delivery)
        assert stored is not None
        return stored

    def record(self, fact: Fact) -> None:
        """Append a fact, without waiting; it is in the file soon, and always before `stop` ends."""
        self._enqueue(fact)

    def _enqueue(self, item: Delivery | Fact) -> asyncio.Future[Stored | None]:
        future: asyncio.Future[Stored | None] = asyncio.get_running_loop().create_future()
        self._pending.append((item, future))
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
        return future

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._pending:
            batch, self._pending = self._pending, []
            items = [item for item, _ in batch]
            try:
                results = await loop.run_in_executor(self._writer, self._write, items)
            except sqlite3.Error as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                        future.exception()
                continue
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)

    def _write(self, items: list[Delivery | Fact]) -> list[Stored | None]:
        assert self._write_db is not None
        self._write_db.execute("BEGIN IMMEDIATE")
        try:
            results = [self._write_item(item) for item in items]
        except BaseException:
            self._write_db.execute("ROLLBACK")
            raise
        self._write_db.execute("COMMIT")
        return results

    def _write_item(self, item: Delivery | Fact) -> Stored | None:
        if isinstance(item, Delivery):
            return self._write_delivery(item)
        self._write_fact(item)
        return None

    def _write_delivery(self, item: Delivery) -> Stored:
        assert self._write_db is not None
        verdict = item.authentication
        known = self._write_db.execute(
            "SELECT count(*) FROM message WHERE message_id = ? AND recipient = ?",
            (item.message_id, item.recipient),
        ).fetchone()[0]
        cursor = self._write_db.execute(
            "INSERT INTO message (provider, recipient, mail_from, message_id, subject, sender, raw,"
            " authentication, received_at, source_ip, tls, copy)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                item.provider, item.recipient, item.mail_from, item.message_id, item.subject,
                item.sender, item.raw, _verdict_json(verdict, item.provider), item.received_at,
                item.source_ip, item.tls, known + 1,
            ),
        )  # fmt: skip
        stored = Stored(cursor.lastrowid or 0, known + 1)
        self._write_fact(
            Fact(
                at=item.received_at,
                kind="delivered" if item.is_acknowledged else "unknown_fate",
                provider=item.provider,
                recipient=item.recipient,
                mail_from=item.mail_from,
                message_id=item.message_id,
                code=250 if item.is_acknowledged else None,
                stored_id=stored.id,
            )
        )
        return stored

    def _write_fact(self, fact: Fact) -> None:
        assert self._write_db is not None
        self._write_db.execute(
            "INSERT INTO fact (at, kind, provider, recipient, mail_from, message_id, domain, code,"
            " text, stored_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                fact.at, fact.kind, fact.provider, fact.recipient, fact.mail_from,
                fact.message_id, domain_of(fact), fact.code, fact.text, fact.stored_id,
            ),
        )  # fmt: skip

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a reading function on the reading thread, after everything recorded so far."""
        if self._flusher:
            # Under steady load there is always another batch, so the wait has an end.
            await asyncio.wait({self._flusher}, timeout=1)
        assert self._read_db is not None
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reader, query, self._read_db)


def _verdict_json(verdict: AuthVerdict | None, provider: str) -> str | None:
    if verdict is None:
        return None
    return json.dumps({**asdict(verdict), "header": verdict.header(provider)})
