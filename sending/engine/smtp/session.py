"""One SMTP session: opening it step by step, and what its messages share.

Each step returns None or a value that says how it ended; nothing here raises for what a server may
do. A message's own dialogue is in `transaction`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from aiosmtplib.errors import SMTPException, SMTPResponseException

from esp.lib.clock import Clock
from sending.engine.classify import about_the_sender, classify, kind_for
from sending.engine.ports import Kind, Lane, Outcome, Phase, Relay, Source
from sending.engine.replies import Reply, clean, make_reply
from sending.engine.shaping.hints import retry_after
from sending.engine.smtp.auth import dialogue, mechanism, without_secret
from sending.engine.smtp.channel import Channel, RawReply, reply_of
from sending.engine.smtp.features import Features, read_features
from sending.engine.smtp.tls import ChainRefused, Security, StartTlsMissing, opportunistic_context

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
    auth: float = 60.0
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
class SessionSettings:
    """What all sessions share. `port` is 25 in production, one other port in the simulation.

    `pipelining` and `chunking` say whether RFC 2920 and RFC 3030 are used where they are offered. A
    message goes as one chunk with its commands only on a connection that has just delivered
    (`hot_seconds`) and up to `chunk_octets`: whether a server that cuts then had taken it cannot be
    known, and a refused recipient's content goes for nothing.
    """

    port: int = 25
    timeouts: Timeouts = field(default_factory=Timeouts)
    tls_context: ssl.SSLContext = field(default_factory=opportunistic_context)
    pipelining: bool = True
    chunking: bool = True
    hot_seconds: float = 1.0
    chunk_octets: int = 100_000


class Session:
    """A connection to one address of one host; made by `open_session`, used by one at a time."""

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
        self.settings = settings
        self.clock = clock
        self.messages = 0
        self.idle_since = 0.0
        self.tls_version: str | None = None
        self.features = Features()
        self.needs_reset = False
        self.may_chunk = False
        self.chunks_failed = False
        self.port = port
        self._origin = origin
        self._channel: Channel | None = None
        self._lost = asyncio.Event()
        self._address = origin.source.address
        self._timings: dict[str, float] = {}

    @property
    def is_open(self) -> bool:
        """Whether another message can be tried on this connection."""
        return self._channel is not None and self._channel.is_usable

    @property
    def channel(self) -> Channel | None:
        """The connection, None before it stands and after it was cut."""
        return self._channel

    async def open(self, security: Security, login: Relay | None = None) -> Outcome | None:
        """Go from nothing to a session ready for MAIL; returns how it failed, or None."""
        try:
            failed = (
                await self._connect(security)
                or await self._greet()
                or await self._hello()
                or await self._secure(security)
                or await self._log_in(login)
            )
        except BaseException:
            await self.abort()
            raise
        if failed is not None:
            await self.abort()
        return failed

    async def quit(self) -> None:
        """Say goodbye, wait shortly for the answer, close."""
        try:
            if self._channel is not None and self._channel.is_usable:
                await self._channel.exchange(b"QUIT\r\n", (self.settings.timeouts.quit,))
        finally:
            await self.abort()

    async def abort(self) -> None:
        """Close the socket now and wait until the event loop has let go of it."""
        channel, self._channel = self._channel, None
        if channel is None:
            return
        channel.close_now()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._lost.wait()

    def timed(self, phases: Sequence[Phase], replies: Sequence[RawReply], start: float) -> None:
        """Add how long each phase took, since the last outcome, to what it took before.

        From the reply before (the first from `start`) to its own; one without a reply until now.
        """
        timings = self._timings
        for number, phase in enumerate(phases):
            is_missing = number >= len(replies)
            end = self.clock.monotonic() if is_missing else replies[number][2]
            timings[phase] = timings.get(phase, 0.0) + end - start
            if is_missing:
                return
            start = end

    def _took(self, phase: Phase, start: float) -> None:
        """Add the time from `start` until now to what `phase` took before."""
        seconds = self.clock.monotonic() - start
        self._timings[phase] = self._timings.get(phase, 0.0) + seconds

    def ended(
        self,
        phase: Phase,
        reply: Reply,
        *,
        kind: Kind | None = None,
        classification: str | None = None,
        is_ambiguous: bool = False,
    ) -> Outcome:
        """Return the outcome of a phase that `reply` ended."""
        classification = classification or _classification(reply)
        if phase == "mail":
            classification = about_the_sender(classification)
        kind = kind or kind_for(reply.code, classification)
        timings, self._timings = self._timings, {}
        has_hint = kind == "deferred" and reply.code is not None
        return Outcome(
            kind=kind,
            phase=phase,
            classification=classification,
            text=reply.text,
            at=self.clock.now(),
            smtp_code=reply.code,
            enhanced_code=reply.enhanced,
            mx_host=self.host,
            mx_address=self.ip,
            source_address=self._address,
            tls_version=self.tls_version,
            timings=timings,
            is_ambiguous=is_ambiguous,
            lane=self._origin.lane,
            route=self._origin.route,
            retry_after_seconds=retry_after(reply.text) if has_hint else None,
        )

    # --- opening ---------------------------------------------------------------------------

    async def _connect(self, security: Security) -> Outcome | None:
        """Connect from the source address; with implicit TLS (RFC 8314) shake hands at once."""
        loop = asyncio.get_running_loop()
        source = self._origin.source.address
        is_implicit = security.mode == "implicit"
        start = self.clock.monotonic()
        failed: Reply | None = None
        is_tls_failure = False
        try:
            async with asyncio.timeout(self.settings.timeouts.connect):
                transport, self._channel = await loop.create_connection(
                    lambda: Channel(monotonic=self.clock.monotonic, on_lost=self._lost.set),
                    self.ip,
                    self.port,
                    local_addr=(source, 0) if source else None,
                    ssl=security.context if is_implicit else None,
                    server_hostname=self.host if is_implicit else None,
                )
        except TimeoutError:
            failed = Reply(None, "The connection timed out.", failure="timeout")
        except (ssl.SSLError, ConnectionAbortedError, ValueError) as error:
            is_tls_failure = is_implicit
            failed = Reply(None, f"TLS failed: {clean(str(error))}", failure="disconnected")
        except OSError as error:
            is_local = error.errno in _LOCAL_ERRORS
            why = clean(error.strerror or str(error)) or "the server closed it"
            text = f"The connection failed: {why}"
            failed = Reply(None, text, failure="local" if is_local else "disconnected")
        self._took("connect", start)
        if is_tls_failure and failed is not None:
            return self.ended("tls", failed, classification="soft/tls-failure")
        if failed is not None:
            return self.ended("connect", failed)
        name = transport.get_extra_info("sockname")
        self._address = name[0] if name else source
        if is_implicit:
            self._note_tls()
        return None

    async def _greet(self) -> Outcome | None:
        assert self._channel is not None
        start = self.clock.monotonic()
        replies = await self._channel.greeting(self.settings.timeouts.greeting)
        reply = self._finished("greeting", replies, start)
        return None if reply.is_positive else self._refused_session("greeting", reply)

    async def _hello(self) -> Outcome | None:
        """EHLO, and HELO for a server that does not know it (RFC 5321 section 3.2)."""
        timeout = self.settings.timeouts.ehlo
        name = self._origin.source.ehlo_name
        reply = await self._say("ehlo", f"EHLO {name}", timeout)
        self.features = read_features(reply.lines[1:]) if reply.is_positive else Features()
        if reply.code is not None and 500 <= reply.code < 600:
            reply = await self._say("ehlo", f"HELO {name}", timeout)
        return None if reply.is_positive else self._refused_session("ehlo", reply)

    async def _secure(self, security: Security) -> Outcome | None:
        """STARTTLS (RFC 3207) where offered; EHLO again, since the old features count no more."""
        if security.mode in ("never", "implicit"):
            return None
        refusal = Reply(None, "The server does not offer STARTTLS.", failure="protocol")
        if self.features.starttls:
            start = self.clock.monotonic()
            refused = await self._handshake(security)
            self._took("tls", start)
            if refused is None:
                security.note(None)
                return await self._hello()
            if refused.code is None or refused.code == 421:
                return self.ended("tls", refused, classification="soft/tls-failure")
            refusal = refused  # it said no politely, and the connection stands
        security.note(StartTlsMissing())
        if security.mode == "opportunistic":
            return None
        return self.ended("tls", refusal, kind="deferred", classification="soft/tls-failure")

    async def _handshake(self, security: Security) -> Reply | None:
        assert self._channel is not None
        try:
            await self._channel.start_tls(
                security.context,
                server_hostname=self.host,
                timeout=self.settings.timeouts.tls,
            )
        except SMTPResponseException as error:
            return make_reply(error.code, error.message)
        # ValueError: a host name that cannot stand in SNI.
        except (SMTPException, OSError, ValueError) as error:
            security.note(error)
            return Reply(None, f"TLS failed: {clean(str(error))}", failure="disconnected")
        tls = self._note_tls()
        problem = security.check(tls) if security.check is not None and tls is not None else ""
        if problem:
            security.note(ChainRefused(problem))
            return Reply(None, f"TLS failed: {problem}", failure="disconnected")
        return None

    def _note_tls(self) -> ssl.SSLObject | None:
        transport = self._channel.transport if self._channel is not None else None
        tls = transport.get_extra_info("ssl_object") if transport is not None else None
        self.tls_version = tls.version() if tls is not None else None
        return tls

    async def _log_in(self, relay: Relay | None) -> Outcome | None:
        """AUTH (RFC 4954); a refused login says nothing of the message, so it is a deferral."""
        if relay is None or not relay.auth:
            return None
        refusal = self._cannot_log_in(relay)
        if refusal is None:
            for line in dialogue(relay):
                reply = await self._say("auth", line.decode("ascii"), self.settings.timeouts.auth)
                if reply.is_positive:
                    return None
                refusal = reply
                if not reply.is_intermediate:
                    break
        assert refusal is not None
        is_refused = refusal.code is not None and (refusal.code >= 500 or refusal.is_intermediate)
        text = f"The login was refused: {refusal.text}" if refusal.code else refusal.text
        reply = replace(refusal, text=without_secret(text, relay))
        return self.ended("auth", reply, kind="deferred",
                          classification="block/auth-failure" if is_refused else None)  # fmt: skip

    def _cannot_log_in(self, relay: Relay) -> Reply | None:
        """Say why the login must not or cannot be tried."""
        if self.tls_version is None and relay.tls != "never":
            text = "The login was not sent, since there is no TLS."
            return Reply(None, text, failure="protocol")
        if mechanism(relay) not in self.features.auth:
            offered = ", ".join(sorted(self.features.auth)) or "nothing"
            text = f"The server does not offer AUTH {mechanism(relay)} but {offered}."
            return Reply(None, clean(text), failure="protocol")
        return None

    # --- what the steps use ----------------------------------------------------------------

    async def _say(self, phase: Phase, line: str, timeout: float) -> Reply:
        if self._channel is None:
            return Reply(None, "The connection was lost.", failure="disconnected")
        start = self.clock.monotonic()
        data = line.encode("utf-8") + b"\r\n"
        return self._finished(phase, await self._channel.exchange(data, (timeout,)), start)

    def _finished(self, phase: Phase, replies: Sequence[RawReply], start: float) -> Reply:
        self._took(phase, start)
        assert self._channel is not None
        return reply_of(replies[0]) if replies else self._channel.explain()

    def _refused_session(self, phase: Phase, reply: Reply) -> Outcome:
        """A server that refuses the session has said nothing about the message: try later.

        But 521 and 556 without other words mean that it never takes mail (RFC 7504).
        """
        outcome = self.ended(phase, reply)
        if outcome.kind == "bounced" and outcome.classification == "hard/invalid-domain":
            return outcome
        return replace(outcome, kind="deferred")


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
    may_chunk: bool = True,
) -> Session | Outcome:
    """Connect from the origin's source to `ip`, greet, secure, log in where `login` says so.

    Returns the session or how it failed. Takes at most the sum of the timeouts up to AUTH; whatever
    happens, no socket stays open unless the session is returned.
    """
    session = Session(host=host, ip=ip, port=port, origin=origin, settings=settings, clock=clock)
    session.may_chunk = settings.chunking and may_chunk
    return await session.open(security, login) or session


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
