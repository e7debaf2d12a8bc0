"""A lean SMTP sink for benchmarks: accepts everything, counts copies per Message-ID.

`python -m esp.simulator.sink --port 2525 --count-file counts.json`. It keeps no content. Its counts
come as one line of JSON: at the end, into the count file on SIGUSR1 and at the end, and to any
client that sends the command `XCOUNT` (or `XRESET`, which also forgets).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import uvloop

MAX_BUFFER = 64 * 1024 * 1024
_EHLO = (
    b"250-sink.mailwright.test\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-SIZE 52428800\r\n"
    b"250-8BITMIME\r\n250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES\r\n"
)
_OK = b"250 2.0.0 OK\r\n"
_REPLIES = {
    b"EHLO": _EHLO,
    b"HELO": b"250 sink.mailwright.test\r\n",
    b"MAIL": b"250 2.1.0 OK\r\n",
    b"RCPT": b"250 2.1.5 OK\r\n",
    b"RSET": _OK,
    b"NOOP": _OK,
    b"DATA": b"354 Go ahead\r\n",
    b"QUIT": b"221 2.0.0 Bye\r\n",
}
_UNKNOWN = b"502 5.5.1 Unrecognized command\r\n"
_BAD_CHUNK = b"501 5.5.4 How many octets?\r\n"
_NO_RECIPIENT = b"503 5.5.1 Give me a recipient first\r\n"


@dataclass(slots=True)
class Counts:
    """What the sink has accepted; times in Unix seconds, None before the first message."""

    copies: Counter[bytes] = field(default_factory=Counter)
    messages: int = 0
    octets: int = 0
    connections: int = 0
    first_at: float | None = None
    last_at: float | None = None

    def add(self, message_id: bytes, size: int) -> None:
        self.copies[message_id] += 1
        self.messages += 1
        self.octets += size
        self.last_at = time.time()
        if self.first_at is None:
            self.first_at = self.last_at

    def forget(self) -> None:
        self.copies.clear()
        self.messages = self.octets = self.connections = 0
        self.first_at = self.last_at = None

    def as_dict(self) -> dict[str, float | int | None]:
        """Return the counts; `duplicates` are copies beyond the first of a Message-ID."""
        seconds = (self.last_at or 0.0) - (self.first_at or 0.0)
        return {
            "messages": self.messages,
            "distinct": len(self.copies),
            "duplicates": self.messages - len(self.copies),
            "octets": self.octets,
            "connections": self.connections,
            "first_at": self.first_at,
            "last_at": self.last_at,
            "messages_per_second": round(self.messages / seconds, 1) if seconds else None,
        }


class SinkProtocol(asyncio.Protocol):
    """One connection. A pipelined group of commands gets its replies in one write.

    Content comes by DATA, or by BDAT in chunks (RFC 3030), which need no search for their end.
    """

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._buffer = bytearray()
        self._scanned = 0
        self._in_data = False
        self._has_recipient = False
        self._chunk = -1  # octets of the chunk that is awaited, -1 for none
        self._is_last = False
        self._chunks = b""  # of a message whose last chunk has not come
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not instances of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)
        self._counts.connections += 1
        self._transport.write(b"220 sink.mailwright.test ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._buffer += data
        replies: list[bytes] = []
        closes = False
        while not closes:
            if self._in_data:
                if not self._take_message():
                    break
                replies.append(_OK)
            elif self._chunk >= 0:
                if len(self._buffer) < self._chunk:
                    break
                replies.append(self._take_chunk())
            else:
                line = self._take_line()
                if line is None:
                    break
                closes = self._obey(line, replies)
        if replies:
            self._transport.write(b"".join(replies))
        if closes or len(self._buffer) > MAX_BUFFER:
            self._transport.close()

    def _take_line(self) -> bytes | None:
        end = self._buffer.find(b"\n")
        if end < 0:
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _obey(self, line: bytes, replies: list[bytes]) -> bool:
        verb = line[:4].upper()
        if verb in (b"XCOU", b"XRES"):
            replies.append(b"250 " + json.dumps(self._counts.as_dict()).encode() + b"\r\n")
            if verb == b"XRES":
                self._counts.forget()
            return False
        if verb == b"BDAT":
            words = line.split()
            if len(words) < 2 or not words[1].isdigit():
                replies.append(_BAD_CHUNK)
                return True  # where its content ends nobody knows
            self._chunk, self._is_last = int(words[1]), words[-1].upper() == b"LAST"
            return False
        if verb == b"DATA":
            if not self._has_recipient:
                replies.append(_NO_RECIPIENT)
                return False
            self._in_data = True
            # The CRLF of the command is the one before the first line: one search then finds
            # the end of an empty message too.
            self._buffer[:0] = b"\r\n"
            self._scanned = 0
        replies.append(_REPLIES.get(verb, _UNKNOWN))
        if verb == b"RCPT":
            self._has_recipient = True
        elif verb in (b"MAIL", b"RSET", b"EHLO", b"HELO"):
            self._has_recipient, self._chunks = False, b""
        return verb == b"QUIT"

    def _take_message(self) -> bool:
        end = self._buffer.find(b"\r\n.\r\n", self._scanned)
        if end < 0:
            self._scanned = max(len(self._buffer) - 4, 0)
            return False
        head = self._buffer.find(b"\r\n\r\n", 2, end + 2)
        self._counts.add(_message_id(bytes(self._buffer[: head if head > 0 else end])), end)
        del self._buffer[: end + 5]
        self._in_data = self._has_recipient = False
        return True

    def _take_chunk(self) -> bytes:
        size, self._chunk = self._chunk, -1
        chunk = bytes(self._buffer[:size])
        del self._buffer[:size]
        if not self._has_recipient:
            return _NO_RECIPIENT
        if self._chunks:
            chunk = self._chunks + chunk
        if not self._is_last:
            self._chunks = chunk
            return _OK
        head = b"\r\n" + chunk[: chunk.find(b"\r\n\r\n") + 2]
        self._counts.add(_message_id(head), len(chunk))
        self._chunks, self._has_recipient = b"", False
        return _OK


def _message_id(head: bytes) -> bytes:
    """Return the Message-ID of a header block that begins with CRLF; b'' when there is none."""
    start = head.find(b"\r\nMessage-ID:")
    if start < 0:
        start = head.lower().find(b"\r\nmessage-id:")
        if start < 0:
            return b""
    start = head.find(b"<", start)
    return head[start : head.find(b">", start) + 1] if start >= 0 else b""


async def serve(host: str, port: int, counts: Counts) -> asyncio.Server:
    """Start a sink in the running loop; the caller closes the server."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: SinkProtocol(counts), host, port, backlog=1024)


async def run(host: str, port: int, count_file: Path | None) -> None:
    """Serve until SIGTERM or SIGINT, then print the counts."""
    counts, stopping = Counts(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    if count_file:
        loop.add_signal_handler(signal.SIGUSR1, _write, count_file, counts)
    server = await serve(host, port, counts)
    where = {"host": host, "port": server.sockets[0].getsockname()[1]}
    print(json.dumps(where), flush=True)  # noqa: T201 (the ready line)
    await stopping.wait()
    server.close()
    print(json.dumps(counts.as_dict()), flush=True)  # noqa: T201 (the result)
    if count_file:
        _write(count_file, counts)


def _write(path: Path, counts: Counts) -> None:
    path.write_text(json.dumps(counts.as_dict()) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m esp.simulator.sink", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--count-file", type=Path)
    options = parser.parse_args()
    try:
        uvloop.run(run(options.host, options.port, options.count_file))
    except OSError as error:
        print(  # noqa: T201 (one sentence)
            f"The sink cannot listen on {options.host}:{options.port} ({error.strerror}):"
            " choose another with --port.",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
