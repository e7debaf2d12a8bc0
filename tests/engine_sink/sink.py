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
from typing import cast

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
    """`data` over and over, `total` bytes in all or until the other side is gone.

    `first` is said first, and `pause` seconds pass before the flood.
    """

    data: bytes
    total: int = 10_000_000
    first: bytes = b""
    pause: float = 0.0


class Hang:
    """Never answer."""


class Cut:
    """Close the connection without an answer."""


class BreakTls:
    """Say 220 to STARTTLS, then speak nonsense."""


@dataclass(frozen=True)
class Smuggle:
    """Say 220 to STARTTLS with `data` in plain text behind it, then shake hands properly."""

    data: bytes


class SpoilTls:
    """Write what is no TLS record into a connection that speaks TLS."""


class Deaf:
    """Say 354, then read nothing any more: the content stays in the senders' buffers."""


Action = str | Raw | Drip | Flood | Hang | Cut | BreakTls | Smuggle | SpoilTls | Deaf

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
    "AUTH": "235 2.7.0 welcome",
    "BDAT": "250 2.0.0 taken",
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
class _Talk:
    """What one connection has said so far."""

    mail: str = ""
    rcpt: str = ""
    has_mail: bool = False
    has_rcpt: bool = False
    is_asking: bool = False

    def note(self, verb: str, command: str, action: Action) -> None:
        is_agreed = isinstance(action, str) and action.startswith("2")
        self.is_asking = isinstance(action, str) and action.startswith("334")
        if verb == "MAIL":
            self.mail, self.has_mail, self.has_rcpt = command, is_agreed, False
        elif verb == "RCPT":
            self.rcpt, self.has_rcpt = command, is_agreed


@dataclass
class Sink:
    """Answers each verb by `script`: one action for always, or a list used up one by one.

    After a list is used up, the default answers.
    """

    script: dict[str, Action | list[Action]] = field(default_factory=dict)
    features: tuple[str, ...] = ("SIZE 10000000", "8BITMIME", "SMTPUTF8")
    tls: ssl.SSLContext | None = None
    is_implicit: bool = False  # TLS from the first byte
    deaf_seconds: float = 1.0
    messages: list[Message] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    certificates: list[bytes | None] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    connections: int = 0
    open_now: int = 0
    most_open: int = 0
    address: str = ""
    port: int = 0

    @property
    def is_slow(self) -> bool:
        """Whether anything in the script lets the other side wait in vain."""
        planned = [one for each in self.script.values()
                   for one in (each if isinstance(each, list) else [each])]  # fmt: skip
        return any(not isinstance(one, str | Cut | Smuggle) for one in planned)

    async def start(self, address: str, port: int) -> None:
        tls = self.tls if self.is_implicit else None
        self._server = await asyncio.start_server(self._serve, address, port, limit=2**26, ssl=tls)
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
            names = [*self.features]
            if self.tls and not self.is_implicit:
                names.append("STARTTLS")
            lines = ["sink.test", *names]
            return "\r\n".join(
                f"250{' ' if i == len(lines) - 1 else '-'}{line}" for i, line in enumerate(lines)
            )
        return DEFAULTS.get(verb, "500 5.5.1 what?")

    def _action_in(self, talk: _Talk, verb: str) -> Action:
        """Return the action for `verb`; out of order it is refused, unless the script says more."""
        is_early = (verb == "RCPT" and not talk.has_mail) or (
            verb in ("DATA", "BDAT") and not talk.has_rcpt
        )
        if is_early and verb not in self.script:
            return "503 5.5.1 out of order"
        return self._action(verb)

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
        talk = _Talk()
        while line := await reader.readline():
            command = line.decode("utf-8", "replace").strip()
            # What follows a 334 is an answer, whatever it looks like (RFC 4954 section 4).
            verb = "AUTH" if talk.is_asking else command.split(" ")[0].upper()
            self.commands.append(command)
            self.counts[verb] += 1
            self.counts["pipelined"] += bool(reader._buffer)  # type: ignore[attr-defined]
            if verb == "BDAT":
                if not await self._chunk(command, talk, reader, writer):
                    return
                continue
            action = self._action_in(talk, verb)
            if not await self._do(action, reader, writer) or verb == "QUIT":
                return
            talk.note(verb, command, action)
            words = action if isinstance(action, str) else ""
            is_secure = isinstance(action, Smuggle) or words.startswith("220")
            if verb == "STARTTLS" and is_secure:
                assert self.tls is not None
                await writer.start_tls(self.tls)
            is_data = verb == "DATA" and words.startswith("354")
            if is_data and not await self._take(talk, reader, writer):
                return

    async def _take(
        self, talk: _Talk, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        data = await reader.readline()
        if data != b".\r\n":
            data += await reader.readuntil(b"\r\n.\r\n")
        action = self._action("BODY")
        self._keep(talk, data, action, writer)
        return await self._do(action, reader, writer)

    async def _chunk(
        self,
        command: str,
        talk: _Talk,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        data = await reader.readexactly(int(command.split()[1]))
        action = self._action_in(talk, "BDAT")
        self._keep(talk, data, action, writer)
        return await self._do(action, reader, writer)

    def _keep(self, talk: _Talk, data: bytes, action: Action, writer: asyncio.StreamWriter) -> None:
        if isinstance(action, str) and action.startswith("250"):
            peer = writer.get_extra_info("peername")[0]
            tls = writer.get_extra_info("ssl_object")
            self.messages.append(Message(talk.mail, talk.rcpt, data, peer, tls is not None))
            if tls is not None:
                self.certificates.append(tls.getpeercert(binary_form=True))

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
                writer.write(action.first)
                await asyncio.sleep(action.pause)
                for _ in range(action.total // len(action.data)):
                    writer.write(action.data)
                    await writer.drain()
            case Hang():
                await reader.read()
                return False
            case Deaf():
                await self._close_ears(writer)
                return False
            case Smuggle():
                writer.write(b"220 ready\r\n" + action.data)
                await writer.drain()
            case _:
                await _spoil(action, reader, writer)
                return False
        return True

    async def _close_ears(self, writer: asyncio.StreamWriter) -> None:
        cast(asyncio.ReadTransport, writer.transport).pause_reading()
        writer.write(b"354 go on\r\n")
        # Nobody tells a transport that does not read of the other side's end.
        await asyncio.sleep(self.deaf_seconds)


async def _spoil(
    action: Action, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Do what ends a connection at once or for TLS's sake."""
    if isinstance(action, BreakTls):
        writer.write(b"220 ready\r\n")
        await writer.drain()
        await reader.read(10)
        writer.write(b"this is no TLS record at all\r\n")
        await writer.drain()
    elif isinstance(action, SpoilTls):
        tcp = writer.transport._ssl_protocol._transport  # type: ignore[attr-defined]
        tcp.write(b"\x17\x03\x03\x00\x20" + bytes(32))
        await reader.read()


def self_signed(name: str) -> tuple[str, str]:
    """Return a certificate that nobody trusts and its key, as PEM texts."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(tz=dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
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
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


def self_signed_context(folder: Path, *, client: str = "") -> ssl.SSLContext:
    """Return a server's TLS context; it asks for the certificate `client` (PEM), if given."""
    certificate, key = self_signed("sink.test")
    path = folder / "sink.pem"
    path.write_text(key + certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    if client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=client)
    return context
