"""The wire of one session: bytes out, replies in, over aiosmtplib's protocol.

aiosmtplib gives the connection and STARTTLS; the reading of replies is our own, since it has to
take several replies for one write (RFC 2920) and costs a third of a message's time otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Literal, cast

from aiosmtplib.errors import (
    SMTPReadTimeoutError,
    SMTPResponseException,
    SMTPServerDisconnected,
)
from aiosmtplib.protocol import SMTPProtocol
from aiosmtplib.response import SMTPResponse

from sending.engine.replies import Reply, clean, make_reply

Failure = Literal["", "timeout", "disconnected", "protocol"]

# A code, the text of all its lines joined by "\n", and when its last line came (seconds).
RawReply = tuple[int, bytes, float]

# RFC 5321 section 4.5.3.1.5 allows 512 octets a line; real ones reach some thousands.
MAX_LINE = 8192
MAX_REPLY = 4 * MAX_LINE

_WORDS: dict[Failure, str] = {
    "timeout": "The server did not answer in time.",
    "disconnected": "The server closed the connection.",
}
_UNASKED = "it spoke before it was asked."
_CODES = {b"%d" % code: code for code in range(200, 600)}


class Channel(SMTPProtocol):
    """One connection. `exchange` writes and waits; it never raises for what a server may do.

    A server cannot cost more than memory for one reply and time for each of them: dripping does not
    renew the patience for a reply, only a whole reply does.
    """

    def __init__(self, *, monotonic: Callable[[], float], on_lost: Callable[[], None]) -> None:
        super().__init__(asyncio.get_running_loop())
        self._monotonic = monotonic
        self._on_lost = on_lost
        self._replies: list[RawReply] = []
        self._lines: list[bytes] = []
        self._size = 0
        self._wanted = 0
        self._patience: Sequence[float] = ()
        self._short_patience = 0.0
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self.failure: Failure = ""
        self.failure_text = ""
        self.is_dirty = False

    @property
    def is_usable(self) -> bool:
        """Whether a command can be written and its reply be told from others.

        What nobody asked for is mostly a 421 before the close, and would pass for the next reply.
        """
        return (
            self.transport is not None
            and not self.failure
            and not self.is_dirty
            and not self.transport.is_closing()
        )

    async def exchange(
        self, data: bytes, patience: Sequence[float], *, short: float = 0.0
    ) -> list[RawReply]:
        """Write `data` and wait for as many replies as `patience` has entries (seconds for each).

        Returns the replies that came; when some are missing, `failure` says why. After a refusal
        the ones still missing are waited for at most `short` seconds, if given: what comes then
        only tells whether the connection can go on.
        """
        if not self.is_usable:
            self._give_up()
            return []
        self._ask(patience, short)
        cast(asyncio.WriteTransport, self.transport).write(data)
        return await self._settled()

    async def greeting(self, seconds: float) -> list[RawReply]:
        """Wait for the reply that the server sends first; it may be there already."""
        if self._wanted:
            self._patience = (seconds,)
            self._watch(self._monotonic())
        return await self._settled()

    def explain(self) -> Reply:
        """Return the Reply that stands for a missing one."""
        self._give_up()
        failure = self.failure
        text = _WORDS.get(failure) or f"The server's answer was no SMTP reply: {self.failure_text}"
        return Reply(None, text, failure=failure)

    def close_now(self) -> None:
        """Cut the connection; `on_lost` is called when the loop has let go of it."""
        if self.transport is not None:
            cast(asyncio.Transport, self.transport).abort()

    # --- the loop calls these --------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # The greeting may arrive before anybody waits for it.
        self._replies, self._wanted = [], 1

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._fail("disconnected")
        super().connection_lost(exc)
        self._on_lost()

    def eof_received(self) -> bool:
        self._fail("disconnected")
        return False  # the transport closes

    def data_received(self, data: bytes) -> None:
        """Take in what came, line by line."""
        if not self._wanted:
            # At once, so that a connection that nobody uses now cannot flood us.
            self._fail("protocol", _UNASKED)
            self.close_now()
            return
        buffer = self._buffer
        if buffer:
            buffer += data
            if b"\n" not in data and len(buffer) <= MAX_LINE:
                return
            data = bytes(buffer)
            buffer.clear()
        position = 0
        now = self._monotonic()
        replies = len(self._replies)
        while self._wanted:
            end = data.find(b"\n", position)
            if (end if end >= 0 else len(data)) - position > MAX_LINE:
                self._fail("protocol", "The reply has no end.")
            elif end < 0:
                buffer += data[position:]
                break
            else:
                self._take_line(data[position:end], now)
                position = end + 1
        if self._wanted:
            if len(self._replies) > replies:
                self._watch(now)
        elif position < len(data):
            self.is_dirty = True

    # --- replies ---------------------------------------------------------------------------

    def _take_line(self, line: bytes, now: float) -> None:
        """Add one line, without its LF, to the replies (RFC 5321 section 4.2.1).

        A code outside 200 to 599 is no reply to any command.
        """
        code, mark = _CODES.get(line[:3]), line[3:4]
        if code is None or mark.isdigit():
            self._fail("protocol", clean(line[:200].decode("utf-8", "replace")))
            return
        text = line[4:].strip(b" \t\r")
        if mark == b"-":
            self._lines.append(text)
            self._size += len(line)
            if self._size > MAX_REPLY:
                self._fail("protocol", "The reply has no end.")
            return
        if self._lines:
            text = b"\n".join([*self._lines, text])
            self._lines.clear()
            self._size = 0
        self._replies.append((code, text, now))
        self._wanted -= 1
        if not self._wanted:
            self._wake()
        elif code >= 400 and self._short_patience:
            self._patience = [self._short_patience] * len(self._patience)

    def _ask(self, patience: Sequence[float], short: float = 0.0) -> None:
        self._replies = []
        self._patience = patience
        self._short_patience = short
        self._wanted = len(patience)
        self._watch(self._monotonic())

    async def _settled(self) -> list[RawReply]:
        """Wait until all replies are there or none can come any more."""
        if self._wanted and not self.failure:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._replies

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _give_up(self) -> None:
        """Say why nothing can be asked, if nothing has said so yet."""
        if self.is_dirty:
            self._fail("protocol", _UNASKED)
        else:
            self._fail("disconnected")

    def _fail(self, failure: Failure, text: str = "") -> None:
        if not self.failure:
            self.failure, self.failure_text = failure, text
        self._wanted = 0
        self._wake()

    # --- patience --------------------------------------------------------------------------

    def _watch(self, now: float) -> None:
        """Set the deadline of the next reply.

        The timer stays armed over many messages and looks at the deadline only when it fires: a
        timer for each of three replies would cost more than reading them.
        """
        seconds = self._patience[len(self._replies)]
        self._deadline = now + seconds
        if self._timer is None or self._timer_at > self._deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._arm(seconds)

    def _arm(self, seconds: float) -> None:
        self._timer_at = self._monotonic() + seconds
        self._timer = self._loop.call_later(seconds, self._look_at_deadline)

    def _look_at_deadline(self) -> None:
        self._timer = None
        if not self._wanted:
            return
        left = self._deadline - self._monotonic()
        if left > 0.002:
            self._arm(left)
        else:
            self._fail("timeout")

    # --- for aiosmtplib's STARTTLS ---------------------------------------------------------

    async def read_response(self, timeout: float | None = None) -> SMTPResponse:
        """Wait for one reply as aiosmtplib's own verbs expect it, with its exceptions."""
        if not self.is_usable:
            raise SMTPServerDisconnected("Connection lost")
        self._ask((timeout or 60.0,))
        replies = await self._settled()
        # What came with the reply came before TLS and must not be read after it (CVE-2011-0411).
        self.is_dirty = False
        if replies:
            return SMTPResponse(replies[0][0], replies[0][1].decode("utf-8", "surrogateescape"))
        if self.failure == "timeout":
            raise SMTPReadTimeoutError(_WORDS["timeout"])
        if self.failure == "protocol":
            raise SMTPResponseException(-1, self.failure_text)
        raise SMTPServerDisconnected(_WORDS["disconnected"])


def reply_of(raw: RawReply) -> Reply:
    """Return `raw` as a value with cleaned text and enhanced code."""
    return make_reply(raw[0], raw[1].decode("utf-8", "surrogateescape"))
