"""The internet of `manage.py bench crash`: providers that cut connections, and remember everything.

One process on loopback, talked to in lines like `bench.internet`: `open` says how many SMTP
transactions are open now, `counts` what has happened so far, `ledger PATH` writes every copy that
was taken (whose, under which Message-ID, when, whether its reply was kept back) and whose
transactions were open when somebody asked, as JSON; the end of input ends it. Whose a copy is, the
return path says: it names the message, whatever stands in its content.

A transaction is open from MAIL until its reply can be with the client: a reply that was sent less
than `_ON_ITS_WAY_SECONDS` ago, and that no further command has followed, may still be on its way
(the window of RFC 1047).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

import uvloop

from esp.simulator.dns import NameServer
from esp.simulator.zones import Record, ZoneStore, make_record
from sending.management.bench.people import domain_of

HOST = "127.0.41.1"
# Where a provider may cut: after which command, or with the whole message in hand.
CUTS = ("mail", "rcpt", "data", "after-dot", "before-reply")
_ON_ITS_WAY_SECONDS = 0.25
_READING_SECONDS = 0.05
_REFUSED_EVERY, _BUSY_EVERY = 40, 15


@dataclass(frozen=True, slots=True)
class Copy:
    """A message that was taken: its key in the return path, its Message-ID, when (monotonic)."""

    key: str
    message_id: str
    at: float
    is_cut: bool  # taken, and cut off before the reply


@dataclass(slots=True)
class Book:
    """What the providers know: the copies that they took, cuts, connections."""

    copies: list[Copy] = field(default_factory=list)
    seen_open: set[str] = field(default_factory=set)  # whose transaction was open when asked
    cuts: Counter[str] = field(default_factory=Counter)
    busy_seen: set[str] = field(default_factory=set)
    sessions: set[Session] = field(default_factory=set)
    connections: int = 0
    interrupted: int = 0  # transactions whose client went away

    def open_now(self) -> set[str]:
        """Return whose transactions are open at this moment."""
        now = time.monotonic()
        return {session.key for session in self.sessions if session.is_open(now)}

    def as_dict(self) -> dict[str, object]:
        """Return the counts."""
        return {
            "messages": len(self.copies),
            "cuts": dict(self.cuts),
            "connections": self.connections,
            "interrupted": self.interrupted,
            "open": len(self.open_now()),
        }


def is_refused(recipient: str) -> bool:
    """Tell whether the providers know no such mailbox: the same answer at every try."""
    return _number(recipient) % _REFUSED_EVERY == _REFUSED_EVERY - 1


def _is_busy(recipient: str) -> bool:
    return _number(recipient) % _BUSY_EVERY == _BUSY_EVERY - 2


def _number(recipient: str) -> int:
    digits = "".join(letter for letter in recipient.partition("@")[0] if letter.isdigit())
    return int(digits or 0)


class Session:
    """One connection to a provider."""

    def __init__(
        self,
        book: Book,
        chance: random.Random,
        cut_share: float,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._book = book
        self._chance = chance
        self._cut_share = cut_share
        self._reader = reader
        self._writer = writer
        self._in_transaction = False
        self._replied_at: float | None = None
        self._recipient = ""
        self.key = ""  # of the message in hand

    def is_open(self, now: float) -> bool:
        """Tell whether the client cannot know yet what became of a message."""
        is_on_its_way = (
            self._replied_at is not None and now - self._replied_at < _ON_ITS_WAY_SECONDS
        )
        return self._in_transaction or is_on_its_way

    async def run(self) -> None:
        """Talk until the client leaves or is cut off."""
        self._book.sessions.add(self)
        self._book.connections += 1
        try:
            self._say("220 sink.mailwright.test ESMTP")
            while line := await self._reader.readline():
                self._replied_at = None
                if not await self._obey(line.decode("ascii", "replace").strip()):
                    break
            else:
                self._book.interrupted += self._in_transaction
        except (ConnectionError, asyncio.IncompleteReadError):
            self._book.interrupted += self.is_open(time.monotonic())
        finally:
            self._book.sessions.discard(self)
            self._writer.close()

    def _say(self, text: str) -> None:
        self._writer.write(text.encode() + b"\r\n")

    def _cuts(self, where: str) -> bool:
        if self._chance.random() >= self._cut_share:
            return False
        self._book.cuts[where] += 1
        self._writer.transport.abort()
        return True

    async def _obey(self, line: str) -> bool:
        verb = line[:4].upper()
        if verb == "EHLO":
            self._say("250-sink.mailwright.test\r\n250-PIPELINING\r\n250 ENHANCEDSTATUSCODES")
        elif verb == "MAIL":
            self._in_transaction = True
            self.key = _key(line)
            if self._cuts("mail"):
                return False
            self._say("250 2.1.0 OK")
        elif verb == "RCPT":
            return self._receive(line)
        elif verb == "DATA":
            return await self._data()
        elif verb == "QUIT":
            self._say("221 2.0.0 Bye")
            return False
        else:
            self._in_transaction = self._in_transaction and verb != "RSET"
            self._say("250 2.0.0 OK")
        return True

    def _receive(self, line: str) -> bool:
        if self._cuts("rcpt"):
            return False
        recipient = line.partition("<")[2].partition(">")[0].lower()
        self._recipient = ""
        if is_refused(recipient):
            self._say("550 5.1.1 No such mailbox")
        elif _is_busy(recipient) and recipient not in self._book.busy_seen:
            self._book.busy_seen.add(recipient)
            self._say("450 4.2.0 Busy, try again")
        else:
            self._recipient = recipient
            self._say("250 2.1.5 OK")
        return True

    async def _data(self) -> bool:
        if not self._recipient:
            self._say("554 5.5.1 No valid recipients")
            return True
        if self._cuts("data"):
            return False
        self._say("354 Go ahead")
        content = await self._reader.readuntil(b"\r\n.\r\n")
        if self._cuts("after-dot"):
            return False
        await asyncio.sleep(self._chance.uniform(0.01, 0.2))
        is_cut = self._cuts("before-reply")
        copy = Copy(self.key, _message_id(content), time.monotonic(), is_cut)
        self._book.copies.append(copy)
        if is_cut:
            return False
        self._say("250 2.0.0 Taken")
        self._in_transaction = False
        self._replied_at = time.monotonic()
        return True


def _key(line: str) -> str:
    """Return the message's id in the return path `b.<id>.<mac>@…` of a MAIL command."""
    address = line.partition("<")[2].partition(">")[0]
    return address.partition("@")[0].lower().split(".")[1]


def _message_id(content: bytes) -> str:
    head = content.partition(b"\r\n\r\n")[0].lower()
    start = head.find(b"\r\nmessage-id:")
    return head[head.find(b"<", start) + 1 : head.find(b">", start)].decode("ascii", "replace")


def _zones(domains: int) -> ZoneStore:
    zones = ZoneStore()
    records: list[Record] = []
    for number in range(domains):
        name = domain_of(number, domains)
        records.append(make_record(name, "MX", f"10 mx.{name}.", ttl=3600))
        records.append(make_record(f"mx.{name}", "A", HOST, ttl=3600))
    zones.publish(records)
    return zones


async def _run(domains: int, seed: int, cut_share: float) -> None:
    book, chance = Book(), random.Random(seed)  # noqa: S311 (chaos that can be repeated)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # the end of it all
            await Session(book, chance, cut_share, reader, writer).run()

    server = await asyncio.start_server(serve, HOST, 0, limit=1024 * 1024, backlog=1024)
    names = NameServer(_zones(domains))
    await names.start("127.0.0.1", 0)
    _say({"smtp_port": server.sockets[0].getsockname()[1], "dns_port": names.port})
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(commands), sys.stdin
    )
    while line := (await commands.readline()).decode().strip():
        command, _, argument = line.partition(" ")
        if command == "ledger":
            Path(argument).write_text(json.dumps(_ledger(book)))
        if command == "open":
            _say(await _look_at_open(book))
        else:
            _say(book.as_dict())


def _ledger(book: Book) -> dict[str, object]:
    return {"copies": [asdict(copy) for copy in book.copies], "open": sorted(book.seen_open)}


async def _look_at_open(book: Book) -> dict[str, object]:
    """Count open transactions, with those of which the words are here and not read yet."""
    found = book.open_now()
    await asyncio.sleep(_READING_SECONDS)
    found |= book.open_now()
    book.seen_open |= found
    return {"open": len(found)}


def _say(value: object) -> None:
    print(json.dumps(value), flush=True)  # noqa: T201 (the answer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--domains", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--cut-share", type=float, default=0.01)
    options = parser.parse_args()
    uvloop.run(_run(options.domains, options.seed, options.cut_share))


if __name__ == "__main__":
    main()
