"""One SMTP session as a sequence of short steps over aiosmtplib's protocol.

Each step returns None or a value that says how it ended; nothing here raises for what a server may
do. A server cannot cost more than memory for one reply (aiosmtplib stops at 8 KB a line and 32 KB a
reply) and time for one phase: a timeout runs over the whole reply, so dripping does not renew it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ssl
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, field, replace
from typing import cast

from aiosmtplib.errors import (
    SMTPException,
    SMTPResponseException,
    SMTPServerDisconnected,
    SMTPTimeoutError,
)
from aiosmtplib.protocol import SMTPProtocol
from aiosmtplib.response import SMTPResponse

from esp.lib.clock import Clock
from sending.engine.classify import about_the_sender, classify, kind_for
from sending.engine.ports import Kind, Lane, Outcome, Phase, Relay, Source
from sending.engine.replies import Reply, clean, make_reply
from sending.engine.tls import Security, opportunistic_context
from sending.engine.wire import dot_stuffed, with_crlf

# Errors of this machine, not of the other: the source address is gone, no more files or ports.
_LOCAL_ERRORS = {errno.EADDRNOTAVAIL, errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ENOBUFS}


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for each phase.

    RFC 5321 section 4.5.3.2 allows 2 to 10 minutes each; today's servers answer within seconds, and
    a slot that waits ten minutes is a slot lost for others. The end of data keeps its patience,
    because giving up there means sending twice (RFC 1047).
    """

    connect: float = 30.0
    greeting: float = 60.0
    ehlo: float = 60.0
    tls: float = 30.0
    mail: float = 60.0
    rcpt: float = 60.0
    data: float = 60.0
    body: float = 300.0
    reset: float = 10.0
    quit: float = 2.0


@dataclass(frozen=True, slots=True)
class Origin:
    """From where, in which lane and by which route messages leave: what all outcomes carry."""

    source: Source
    lane: Lane
    route: str = ""

    def mark(self, outcome: Outcome) -> Outcome:
        """Return `outcome` as one of this origin."""
        return replace(outcome, lane=self.lane, route=self.route)


@dataclass(frozen=True, slots=True)
class Letter:
    """One message as a session takes it: `mail` and `rcpt` are command paths, ready for the wire.

    `data` has CRLF line ends and is not dot-stuffed.
    """

    mail: str
    rcpt: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What all sessions share. `port` is 25 in production, one other port in the simulation."""

    port: int = 25
    timeouts: Timeouts = field(default_factory=Timeouts)
    tls_context: ssl.SSLContext = field(default_factory=opportunistic_context)


class Session:
    """A connection to one address of one MX host; made by `open_session`, used by one at a time."""

    def __init__(
        self,
        *,
        host: str,
        ip: str,
        port: int,
        origin: Origin,
        settings: SessionSettings,
        clock: Clock,
    ) -> None:
        self.host = host
        self.ip = ip
        self._port = port
        self._origin = origin
        self.messages = 0
        self.idle_since = 0.0
        self.tls_version: str | None = None
        self._settings = settings
        self._clock = clock
        self._protocol: SMTPProtocol | None = None
        self._lost = asyncio.Event()
        self._features: dict[str, str] = {}
        self._needs_reset = False
        self._timings: dict[str, float] = {}

    @property
    def is_open(self) -> bool:
        """Whether another message can be tried on this connection."""
        return self._protocol is not None and self._protocol.is_connected

    async def open(self, security: Security) -> Outcome | None:
        """Go from nothing to a session ready for MAIL; returns how it failed, or None."""
        try:
            failed = await self._connect() or await self._greet() or await self._hello()
            if failed is None and security.mode != "never":
                failed = await self._secure(security)
        except BaseException:
            await self.abort()
            raise
        if failed is not None:
            await self.abort()
        return failed

    async def send(self, letter: Letter) -> Outcome:
        """Run one mail transaction; afterwards `is_open` tells whether the session lives on.

        When cancelled it cuts the connection, since a half-done transaction cannot be resumed.
        """
        try:
            outcome = await self._transaction(letter)
        except BaseException:
            await self.abort()
            raise
        if outcome.smtp_code is None or outcome.smtp_code == 421:
            # 421: the server closes the channel (RFC 5321 section 3.8), whatever we do.
            await self.abort()
        return outcome

    async def quit(self) -> None:
        """Say goodbye, wait shortly for the answer, close."""
        try:
            if self.is_open:
                await self._command("QUIT", timeout=self._settings.timeouts.quit)
        finally:
            await self.abort()

    async def abort(self) -> None:
        """Close the socket now and wait until the event loop has let go of it."""
        protocol = self._protocol
        self._protocol = None
        if protocol is None:
            return
        if protocol.transport is not None:
            cast(asyncio.Transport, protocol.transport).abort()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._lost.wait()

    # --- opening ---------------------------------------------------------------------------

    async def _connect(self) -> Outcome | None:
        loop = asyncio.get_running_loop()

        def factory() -> SMTPProtocol:
            return SMTPProtocol(loop, connection_lost_callback=lambda _: self._lost.set())

        local = (self._origin.source.address, 0) if self._origin.source.address else None
        with self._timed("connect"):
            try:
                async with asyncio.timeout(self._settings.timeouts.connect):
                    _, self._protocol = await loop.create_connection(
                        factory, self.ip, self._port, local_addr=local
                    )
            except TimeoutError:
                return self._ended("connect", Reply(None, "The connection timed out.",
                                                    failure="timeout"))  # fmt: skip
            except OSError as error:
                is_local = error.errno in _LOCAL_ERRORS
                text = f"The connection failed: {clean(error.strerror or str(error))}"
                return self._ended(
                    "connect", Reply(None, text, failure="local" if is_local else "disconnected")
                )
        return None

    async def _greet(self) -> Outcome | None:
        with self._timed("greeting"):
            reply = await self._reply_to(self._live().read_response(
                timeout=self._settings.timeouts.greeting))  # fmt: skip
        return None if reply.is_positive else self._refused_session("greeting", reply)

    async def _hello(self) -> Outcome | None:
        """EHLO, and HELO for a server that does not know it (RFC 5321 section 3.2)."""
        timeout = self._settings.timeouts.ehlo
        with self._timed("ehlo"):
            reply = await self._command("EHLO", self._origin.source.ehlo_name, timeout=timeout)
            self._features = _features(reply) if reply.is_positive else {}
            if reply.code is not None and 500 <= reply.code < 600:
                reply = await self._command("HELO", self._origin.source.ehlo_name, timeout=timeout)
        return None if reply.is_positive else self._refused_session("ehlo", reply)

    async def _secure(self, security: Security) -> Outcome | None:
        """STARTTLS (RFC 3207) where offered; EHLO again, since the old features count no more."""
        refusal = Reply(None, "The server does not offer STARTTLS.", failure="protocol")
        if "STARTTLS" in self._features:
            with self._timed("tls"):
                refused = await self._handshake(security)
            if refused is None:
                return await self._hello()
            if refused.code is None or refused.code == 421:
                return self._ended("tls", refused, classification="soft/tls-failure")
            refusal = refused  # it said no politely, and the connection stands
        if security.mode == "opportunistic":
            return None
        return self._ended("tls", refusal, kind="deferred", classification="soft/tls-failure")

    async def _handshake(self, security: Security) -> Reply | None:
        protocol = self._live()
        try:
            await protocol.start_tls(
                security.context,
                server_hostname=self.host,
                timeout=self._settings.timeouts.tls,
            )
        except SMTPResponseException as error:
            return make_reply(error.code, error.message)
        # ValueError: a host name that cannot stand in SNI.
        except (SMTPException, OSError, ValueError) as error:
            return Reply(None, f"TLS failed: {clean(str(error))}", failure="disconnected")
        transport = cast(asyncio.Transport, protocol.transport)
        tls = transport.get_extra_info("ssl_object") if transport is not None else None
        self.tls_version = tls.version() if tls is not None else None
        return None

    # --- one message -----------------------------------------------------------------------

    async def _transaction(self, letter: Letter) -> Outcome:
        content = with_crlf(letter.data)
        unfit = self._unfit(letter, content)
        if unfit is not None:
            return unfit
        failed = await self._mail(letter, content) or await self._rcpt(letter)
        if failed is None:
            failed = await self._data()
        return failed if failed is not None else await self._body(content)

    def _unfit(self, letter: Letter, content: bytes) -> Outcome | None:
        """Say what the server has already told us that it will not take."""
        limit = self._features.get("SIZE", "")
        if limit.isdigit() and 0 < int(limit) < len(content):
            text = f"The message has {len(content)} bytes, the server takes {int(limit)}."
            reply = Reply(552, text, "5.3.4")
            return self._ended("mail", reply, classification="block/content")
        if not _is_ascii(letter) and "SMTPUTF8" not in self._features:
            reply = Reply(553, "The server does not take addresses outside ASCII.", "5.6.7")
            return self._ended("mail", reply, classification="soft/protocol-error")
        return None

    async def _mail(self, letter: Letter, content: bytes) -> Outcome | None:
        arguments = [f"FROM:<{letter.mail}>"]
        if "SIZE" in self._features:
            arguments.append(f"SIZE={len(content)}")
        # Without 8BITMIME the bytes go as they are: converting would break the signature, and
        # servers without it that also clear the eighth bit have died out.
        if "8BITMIME" in self._features and not content.isascii():
            arguments.append("BODY=8BITMIME")
        if not _is_ascii(letter):
            arguments.append("SMTPUTF8")
        with self._timed("mail"):
            if self._needs_reset:
                reply = await self._command("RSET", timeout=self._settings.timeouts.reset)
                if not reply.is_positive:
                    return self._ended("mail", reply, kind="deferred")
                self._needs_reset = False
            reply = await self._command("MAIL", *arguments, timeout=self._settings.timeouts.mail)
        self._needs_reset = True
        return None if reply.is_positive else self._ended("mail", reply)

    async def _rcpt(self, letter: Letter) -> Outcome | None:
        path = f"TO:<{letter.rcpt}>"
        with self._timed("rcpt"):
            reply = await self._command("RCPT", path, timeout=self._settings.timeouts.rcpt)
        return None if reply.is_positive else self._ended("rcpt", reply)

    async def _data(self) -> Outcome | None:
        with self._timed("data"):
            reply = await self._command("DATA", timeout=self._settings.timeouts.data)
        if reply.is_intermediate:
            return None
        if reply.is_positive:
            # The server believes that it is still in command mode: the content would be commands.
            reply = Reply(None, f"DATA was answered with {reply.code}.", failure="protocol")
        return self._ended("data", reply)

    async def _body(self, content: bytes) -> Outcome:
        with self._timed("body"):
            reply = await self._reply_to(self._write_body(dot_stuffed(content)))
        if reply.is_positive:
            self._needs_reset = False
            self.messages += 1
            return self._ended("body", reply, kind="delivered", classification="none/delivered")
        return self._ended("body", reply, is_ambiguous=reply.code is None)

    async def _write_body(self, content: bytes) -> SMTPResponse:
        protocol = self._live()
        protocol.write(content)
        return await protocol.read_response(timeout=self._settings.timeouts.body)

    # --- what all steps use ----------------------------------------------------------------

    def _live(self) -> SMTPProtocol:
        if self._protocol is None:
            raise SMTPServerDisconnected("Connection lost")
        return self._protocol

    async def _command(self, *words: str, timeout: float) -> Reply:
        if self._protocol is None:
            return Reply(None, "The connection was lost.", failure="disconnected")
        line = [word.encode() for word in words]
        return await self._reply_to(self._protocol.execute_command(*line, timeout=timeout))

    async def _reply_to(self, exchange: Awaitable[SMTPResponse]) -> Reply:
        """Wait for the answer; every way in which there is none becomes a value."""
        try:
            response = await exchange
        except SMTPResponseException as error:
            text = f"The server's answer was no SMTP reply: {clean(error.message)}"
            return Reply(None, text, failure="protocol")
        except SMTPTimeoutError:
            return Reply(None, "The server did not answer in time.", failure="timeout")
        except (SMTPException, OSError):
            return Reply(None, "The server closed the connection.", failure="disconnected")
        return make_reply(response.code, response.message)

    @contextlib.contextmanager
    def _timed(self, phase: Phase) -> Iterator[None]:
        start = self._clock.monotonic()
        try:
            yield
        finally:
            spent = self._clock.monotonic() - start
            self._timings[phase] = self._timings.get(phase, 0.0) + spent

    def _refused_session(self, phase: Phase, reply: Reply) -> Outcome:
        """A server that refuses the session has said nothing about the message: try later.

        But 521 and 556 without other words mean that it never takes mail (RFC 7504).
        """
        outcome = self._ended(phase, reply)
        if outcome.kind == "bounced" and outcome.classification == "hard/invalid-domain":
            return outcome
        return replace(outcome, kind="deferred")

    def _ended(
        self,
        phase: Phase,
        reply: Reply,
        *,
        kind: Kind | None = None,
        classification: str | None = None,
        is_ambiguous: bool = False,
    ) -> Outcome:
        classification = classification or _classification(reply)
        if phase == "mail":
            classification = about_the_sender(classification)
        timings, self._timings = self._timings, {}
        transport = self._protocol.transport if self._protocol is not None else None
        name = transport.get_extra_info("sockname") if transport is not None else None
        return Outcome(
            kind=kind or kind_for(reply.code, classification),
            phase=phase,
            classification=classification,
            text=reply.text,
            at=self._clock.now(),
            smtp_code=reply.code,
            enhanced_code=reply.enhanced,
            mx_host=self.host,
            mx_address=self.ip,
            source_address=name[0] if name else self._origin.source.address,
            tls_version=self.tls_version,
            timings=timings,
            is_ambiguous=is_ambiguous,
            lane=self._origin.lane,
            route=self._origin.route,
        )


async def open_session(
    *,
    host: str,
    ip: str,
    port: int,
    origin: Origin,
    settings: SessionSettings,
    clock: Clock,
    security: Security,
    login: Relay | None = None,
) -> Session | Outcome:
    """Connect from `source` to `ip`, greet and secure; returns the session or how it failed.

    Takes at most the sum of the timeouts up to TLS; whatever happens, no socket stays open unless
    the session is returned.
    """
    session = Session(host=host, ip=ip, port=port, origin=origin, settings=settings, clock=clock)
    return await session.open(security) or session


def _features(reply: Reply) -> dict[str, str]:
    """Return the keywords of an EHLO reply with their parameters (RFC 5321 section 4.1.1.1)."""
    features = {}
    for line in reply.lines[1:]:
        keyword, _, parameters = line.strip().partition(" ")
        features[keyword.upper()] = parameters.strip()
    return features


def _is_ascii(letter: Letter) -> bool:
    # Domains are A-labels by now; only local parts can need SMTPUTF8.
    return letter.mail.isascii() and letter.rcpt.isascii()


def _classification(reply: Reply) -> str:
    match reply.failure:
        case "timeout" | "disconnected":
            return "soft/network-error"
        case "protocol":
            return "soft/protocol-error"
        case "local":
            return "soft/server-error"
        case _:
            if not (reply.code and reply.code >= 400):
                return "soft/protocol-error"
            return classify(code=reply.code, enhanced=reply.enhanced, text=reply.text)
