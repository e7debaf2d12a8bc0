"""The inbound SMTP server: takes mail at our addresses, and says 250 only when it is kept.

It decides nothing but whose address it is; what a mail says is read later, by workers. What is not
ours is refused at RCPT, so that no bounce of ours ever goes to an innocent.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from aiosmtpd.smtp import SMTP, Envelope, Session

log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Store(Protocol):
    """What the listener needs of the rest; the methods block and are called in a thread."""

    def is_ours(self, address: str) -> bool:
        """Tell whether mail for `address` is taken; raises when that cannot be known now."""

    def keep(self, mail_from: str, recipients: Sequence[str], raw: bytes) -> list[uuid.UUID]:
        """Commit a mail, a row a recipient; raises when it is not kept."""

    def wake(self, inbound_id: uuid.UUID) -> None:
        """Tell the workers that a mail waits; a failure is harmless."""

    def close(self) -> None:
        """Close what the thread holds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may take. Sizes in bytes, times in seconds."""

    message_bytes: int = 10 * 1024 * 1024
    connections: int = 60
    connections_per_address: int = 20
    recipients: int = 20
    # From one command to the next; a whole message has to come within it.
    idle_seconds: float = 60.0
    # In one connection from MAIL to the end of the message: what is over the size is read and
    # thrown away so that the client hears 552, but not without end.
    flood_bytes: int = 32 * 1024 * 1024
    keep_seconds: float = 20.0


_TRY_LATER = "452 4.3.0 The mail cannot be kept now, try again later"


class _Handler:
    """aiosmtpd's hooks."""

    def __init__(self, server: InboundServer) -> None:
        self._server = server

    async def handle_MAIL(
        self,
        smtp: _Session,
        _session: Session,
        envelope: Envelope,
        address: str,
        options: list[str],
    ) -> str:
        smtp.received_bytes = 0
        envelope.mail_from = address  # "<>" for the null sender
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(
        self,
        _smtp: _Session,
        _session: Session,
        envelope: Envelope,
        address: str,
        options: list[str],
    ) -> str:
        if len(envelope.rcpt_tos) >= self._server.limits.recipients:
            return "452 4.5.3 Too many recipients"
        try:
            ours = await self._server.in_thread(self._server.store.is_ours, address)
        except Exception as error:  # whatever the database says: the client tries again
            log.warning("an address could not be looked up: %s", error)
            return "452 4.3.0 The address cannot be looked up now, try again later"
        if not ours:
            return "550 5.1.1 No such address here"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_DATA(self, _smtp: _Session, _session: Session, envelope: Envelope) -> str:
        content = envelope.original_content or b""
        sender = (envelope.mail_from or "").strip("<>")
        recipients = list(dict.fromkeys(envelope.rcpt_tos))
        keep = self._server.store.keep
        try:
            kept = await self._server.in_thread(keep, sender, recipients, content)
        except Exception as error:
            log.warning("a mail could not be kept: %s", error)
            return _TRY_LATER
        self._server.wake(kept)
        return "250 2.0.0 Kept"

    async def handle_exception(self, error: Exception) -> str:
        log.error("a session of the inbound listener failed: %r", error)
        return "451 4.3.0 Something went wrong here, try again later"


class _Session(SMTP):
    """One client's session: counted, and cut off when it floods."""

    # Bounces quote mail with lines of any length; aiosmtpd's 1001 would lose them.
    line_length_limit = 1024 * 1024

    def __init__(self, server: InboundServer, **options: Any) -> None:
        super().__init__(_Handler(server), **options)
        self._server = server
        self._peer = ""
        self.received_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not self._peer:  # a second call comes after STARTTLS
            self._peer = str((transport.get_extra_info("peername") or ("?",))[0])
            self._server.note_open(self, self._peer)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.note_closed(self, self._peer)
        super().connection_lost(error)

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        if self.received_bytes > self._server.limits.flood_bytes:
            log.warning("the client at %s sends without end: cut off", self._peer)
            self.cut_off()
            return
        super().data_received(data)

    def cut_off(self) -> None:
        """End the connection at once, whatever is under way."""
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.abort()


class _Busy(asyncio.Protocol):
    """Tells a client to come back, because too many are here."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"421 4.3.2 Too many connections, try again later\r\n")
        transport.close()


class _Gate(asyncio.Protocol):
    """Looks at who connects before a session is made for them."""

    def __init__(self, server: InboundServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        peer = str((transport.get_extra_info("peername") or ("?",))[0])
        protocol = self._server.make_session() if self._server.has_room(peer) else _Busy()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)


class InboundServer:
    """The listener. `async with InboundServer(...)`: it listens inside the block.

    `host` and `port` (0: any free one) are where it listens; `port` is the real one then. Leaving
    waits a few seconds for sessions under way. Raises OSError when the port is taken.
    """

    def __init__(
        self,
        store: Store,
        *,
        host: str,
        port: int,
        hostname: str,
        tls: ssl.SSLContext | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.store = store
        self.limits = limits or Limits()
        self.host, self.port = host, port
        self._hostname, self._tls = hostname, tls
        self._sessions: set[_Session] = set()
        self._per_address: Counter[str] = Counter()
        # One thread, so one database connection; a commit takes a millisecond or two.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inbound-store")
        self._waker = ThreadPoolExecutor(1, thread_name_prefix="inbound-wake")
        self._waking = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Gate(self), self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for _ in range(30):
            if not self._sessions:
                break
            await asyncio.sleep(0.1)
        for session in list(self._sessions):
            session.cut_off()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self.store.close)
        await asyncio.to_thread(self._thread.shutdown)
        await asyncio.to_thread(self._waker.shutdown, cancel_futures=True)

    async def in_thread(self, work: Callable[..., _T], *args: object) -> _T:
        """Run blocking `work` in the thread that has the database; raises TimeoutError too."""
        loop = asyncio.get_running_loop()
        call: Awaitable[_T] = loop.run_in_executor(self._thread, work, *args)
        return await asyncio.wait_for(call, self.limits.keep_seconds)

    def wake(self, kept: Sequence[uuid.UUID]) -> None:
        """Wake workers without waiting: with a broker away each try takes seconds."""
        if self._waking > 200:  # the sweep finds them
            return
        for inbound_id in kept:
            self._waking += 1
            call = asyncio.get_running_loop().run_in_executor(
                self._waker, self.store.wake, inbound_id
            )
            call.add_done_callback(self._woken)

    def _woken(self, call: asyncio.Future[None]) -> None:
        self._waking -= 1
        if not call.cancelled() and call.exception() is not None:
            log.warning("no worker could be woken: %s", call.exception())

    def has_room(self, peer: str) -> bool:
        """Tell whether one more connection from `peer` is welcome."""
        return (
            len(self._sessions) < self.limits.connections
            and self._per_address[peer] < self.limits.connections_per_address
        )

    def make_session(self) -> _Session:
        """Return the protocol for a new client."""
        return _Session(
            self,
            hostname=self._hostname,
            ident="ESMTP Mailwright",
            data_size_limit=self.limits.message_bytes,
            enable_SMTPUTF8=True,
            tls_context=self._tls,
            timeout=self.limits.idle_seconds,
            command_call_limit={"RCPT": 1000, "*": 100_000},
            loop=asyncio.get_running_loop(),
        )

    def note_open(self, session: _Session, peer: str) -> None:
        """Count a client in."""
        self._sessions.add(session)
        self._per_address[peer] += 1

    def note_closed(self, session: _Session, peer: str) -> None:
        """Count a client out, once."""
        if session in self._sessions:
            self._sessions.discard(session)
            self._per_address[peer] -= 1
            if not self._per_address[peer]:
                del self._per_address[peer]
