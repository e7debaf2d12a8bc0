"""Reading SMTP from a stream: command lines and message data, with limits."""

from __future__ import annotations

import asyncio

MAX_LINE = 4096
CHUNK = 65536


class LineTooLong(Exception):
    """A command line is longer than any valid one."""


class Wire:
    """The octets of one SMTP client. Both readers return None when the client is gone."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._buffer = bytearray()

    @property
    def has_buffered(self) -> bool:
        return bool(self._buffer)

    async def _more(self) -> bool:
        chunk = await self._reader.read(CHUNK)
        self._buffer += chunk
        return bool(chunk)

    async def line(self) -> bytes | None:
        """Return the next line without its end. Raises LineTooLong."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > MAX_LINE:
                raise LineTooLong
            if not await self._more():
                return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.rstrip(b"\r")

    async def data(self, limit: int) -> bytes | None:
        """Return the message after DATA, dots unstuffed (RFC 5321 4.5.2), with CRLF at its end.

        A message above `limit` octets is read to its end and returned cut to `limit + 1` octets,
        so that the caller sees that it is too long.
        """
        # The CRLF before the first line was read with the command: put it back, so that one
        # search finds the end of an empty message too.
        self._buffer[:0] = b"\r\n"
        start, kept = 0, bytearray()
        while (end := self._buffer.find(b"\r\n.\r\n", start)) < 0:
            if len(self._buffer) > limit + CHUNK:
                kept = kept or self._buffer[: limit + 3]
                del self._buffer[:-4]
            start = max(len(self._buffer) - 4, 0)
            if not await self._more():
                return None
        body = bytes(kept or self._buffer[: end + 2])
        del self._buffer[: end + 5]
        if len(body) > limit + 2:
            return body[2 : limit + 3]
        return body.replace(b"\r\n..", b"\r\n.")[2:]
