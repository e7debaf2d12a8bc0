"""A mail server that misbehaves on command, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import ssl
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Raw:
    """Bytes sent as they are; then the sink goes on to wait for a command."""

    data: bytes


@dataclass(frozen=True)
class Drip:
    """Bytes sent one at a time with a pause between them."""

    data: bytes
    pause: float = 0.05


@dataclass(frozen=True)
class Flood:
    """`data` over and over, `total` bytes in all or until the other side is gone."""

    data: bytes
    total: int = 10_000_000


class Hang:
    """Never answer."""


class Cut:
    """Close the connection without an answer."""


class BreakTls:
    """Say 220 to STARTTLS, then speak nonsense."""


Action = str | Raw | Drip | Flood | Hang | Cut | BreakTls

DEFAULTS: dict[str, Action] = {
    "CONNECT": "220 sink.test ESMTP",
    "HELO": "250 sink.test",
    "MAIL": "250 2.1.0 OK",
    "RCPT": "250 2.1.5 OK",
    "DATA": "354 go on",
    "BODY": "250 2.0.0 taken",
    "RSET": "250 2.0.0 OK",
    "QUIT": "221 2.0.0 bye",
    "STARTTLS": "220 2.0.0 ready",
}


@dataclass
class Message:
    """What a transaction left behind."""

    mail: str
    rcpt: str
    data: bytes
    peer: str
    is_tls: bool


@dataclass
class Sink:
    """Answers each verb by `script`: one action for always, or a list used up one by one.

    After a list is used up, the default answers.
    """

    script: dict[str, Action | list[Action]] = field(default_factory=dict)
    features: tuple[str, ...] = ("SIZE 10000000", "8BITMIME", "SMTPUTF8")
    tls: ssl.SSLContext | None = None
    messages: list[Message] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    connections: int = 0
    open_now: int = 0
    most_open: int = 0
    address: str = ""
    port: int = 0

    async def start(self, address: str, port: int) -> None:
        self._server = await asyncio.start_server(self._serve, address, port, limit=2**26)
        self.address, self.port = self._server.sockets[0].getsockname()[:2]
        self._tasks: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until_closed(self) -> None:
        """Wait until nobody is connected; fails when somebody stays."""
        async with asyncio.timeout(3):
            while self.open_now:
                await asyncio.sleep(0.005)

    def _action(self, verb: str) -> Action:
        planned = self.script.get(verb)
        if isinstance(planned, list):
            planned = planned.pop(0) if planned else None
        if planned is not None:
            return planned
        if verb == "EHLO":
            names = [*self.features, *(["STARTTLS"] if self.tls else [])]
            lines = ["sink.test", *names]
            return "\r\n".join(
                f"250{' ' if i == len(lines) - 1 else '-'}{line}" for i, line in enumerate(lines)
            )
        return DEFAULTS.get(verb, "500 5.5.1 what?")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, EOFError):
                await self._talk(reader, writer)
        except asyncio.CancelledError:
            pass
        finally:
            self.open_now -= 1
            self._tasks.discard(task)
            writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not await self._do(self._action("CONNECT"), reader, writer):
            return
        mail = rcpt = ""
        while line := await reader.readline():
            command = line.decode("utf-8", "replace").strip()
            verb = command.split(" ")[0].upper()
            self.commands.append(command)
            self.counts[verb] += 1
            action = self._action(verb)
            if not await self._do(action, reader, writer):
                return
            if verb == "MAIL":
                mail = command
            elif verb == "RCPT":
                rcpt = command
            elif verb == "STARTTLS" and isinstance(action, str) and action.startswith("220"):
                assert self.tls is not None
                await writer.start_tls(self.tls)
            elif verb == "DATA" and isinstance(action, str) and action.startswith("354"):
                if not await self._take(reader, writer, mail, rcpt):
                    return
            elif verb == "QUIT":
                return

    async def _take(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mail: str, rcpt: str
    ) -> bool:
        data = await reader.readuntil(b"\r\n.\r\n")
        action = self._action("BODY")
        if isinstance(action, str) and action.startswith("250"):
            peer = writer.get_extra_info("peername")[0]
            is_tls = writer.get_extra_info("ssl_object") is not None
            self.messages.append(Message(mail, rcpt, data, peer, is_tls))
        return await self._do(action, reader, writer)

    async def _do(
        self, action: Action, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer; returns whether the connection goes on."""
        match action:
            case str():
                writer.write(action.encode() + b"\r\n")
                await writer.drain()
                return not action.startswith("421")
            case Raw():
                writer.write(action.data)
                await writer.drain()
            case Drip():
                for byte in action.data:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(action.pause)
            case Flood():
                for _ in range(action.total // len(action.data)):
                    writer.write(action.data)
                    await writer.drain()
            case BreakTls():
                writer.write(b"220 ready\r\n")
                await writer.drain()
                await reader.read(10)
                writer.write(b"this is no TLS record at all\r\n")
                await writer.drain()
                return False
            case Cut():
                return False
            case Hang():
                await reader.read()
                return False
        return True


def self_signed_context(folder: Path) -> ssl.SSLContext:
    """Return a server's TLS context with a certificate that nobody trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sink.test")])
    now = dt.datetime.now(tz=dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    path = folder / "sink.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
