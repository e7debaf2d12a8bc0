"""The SMTP server of the simulated providers (RFC 5321): one session object per connection.

Offers PIPELINING, SIZE, 8BITMIME, SMTPUTF8, ENHANCEDSTATUSCODES and, by provider, STARTTLS. What a
provider objects to stands in `manners.py`; this file speaks the protocol and keeps the books.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.header import decode_header, make_header
from email.parser import BytesHeaderParser
from email.policy import compat32
from typing import Protocol

from esp.simulator import replies
from esp.simulator.authentication import AuthVerdict
from esp.simulator.clock import Clock
from esp.simulator.mailbox import Delivery, Fact, MailStore, Stored
from esp.simulator.manners import BreakPoint, Manners
from esp.simulator.providers import MxHost
from esp.simulator.replies import Reply
from esp.simulator.wire import LineTooLong, Wire

IDLE_SECONDS = 60.0
MAX_RECIPIENTS = 100
MAX_ERRORS = 20
_PATH = re.compile(r"\s*<([^<>\s]*)>(.*)$", re.DOTALL)


class Verifier(Protocol):
    """Verifies a message off the event loop; None when verification is switched off."""

    def __call__(
        self, *, ip: str, helo: str, mail_from: str, raw: bytes
    ) -> Awaitable[AuthVerdict | None]: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every session shares."""

    store: MailStore
    clock: Clock
    verify: Verifier
    on_stored: Callable[[Delivery, Stored], None]
    tls: ssl.SSLContext


@dataclass(slots=True)
class _Transaction:
    mail_from: str | None = None
    recipients: list[str] = field(default_factory=list)
    break_at: BreakPoint | None = None


class _BrokenOff(Exception):
    """The provider hangs up here without a reply."""


class SmtpSession:
    """One connection of a sender to one MX host."""

    def __init__(
        self,
        host: MxHost,
        manners: Manners,
        around: Surroundings,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._host, self._manners, self._around = host, manners, around
        self._provider = manners.provider
        self._reader, self._writer = reader, writer
        self._wire = Wire(reader)
        self._ip: str = writer.get_extra_info("peername")[0]
        self._helo, self._tls = "", ""
        self._messages, self._errors = 0, 0
        self._transaction = _Transaction()
        self._verbs: dict[str, Callable[[str], Awaitable[Reply]]] = {
            "EHLO": self._ehlo,
            "HELO": self._helo_,
            "STARTTLS": self._starttls,
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data,
            "RSET": self._rset,
            "NOOP": self._noop,
            "VRFY": self._vrfy,
            "QUIT": self._quit,
        }

    async def run(self) -> None:
        """Serve the connection to its end; never raises for what a client does."""
        try:
            if await self._greet():
                await self._converse()
        except (_BrokenOff, ConnectionError, ssl.SSLError, TimeoutError):
            pass
        finally:
            self._manners.disconnected(self._ip)
            self._writer.close()

    async def _greet(self) -> bool:
        objection = self._manners.connected(self._ip)
        if objection:
            self._note(objection, "")
            await self._send(objection)
            return False
        await self._wait(self._provider.greeting_delay)
        await self._send(Reply(220, "", f"{self._host.name} ESMTP {self._provider.title}"))
        return True

    async def _converse(self) -> None:
        while True:
            try:
                line = await asyncio.wait_for(self._wire.line(), IDLE_SECONDS)
            except LineTooLong:
                await self._send(replies.LINE_TOO_LONG)
                return
            except TimeoutError:
                await self._send(replies.IDLE)
                return
            if line is None:
                return
            reply = await self._obey(line)
            await self._send(reply)
            if reply.closes or self._errors > MAX_ERRORS:
                return

    async def _obey(self, line: bytes) -> Reply:
        verb, _, argument = line.decode("utf-8", "replace").partition(" ")
        handler = self._verbs.get(verb.upper())
        reply = await handler(argument.strip()) if handler else replies.UNKNOWN_COMMAND
        if 500 <= reply.code <= 504:
            self._errors += 1
        return reply

    async def _send(self, reply: Reply) -> None:
        if reply is not replies.SILENCE:
            self._writer.write(reply.wire())
            await self._writer.drain()

    async def _wait(self, seconds: float) -> None:
        if seconds:
            await self._around.clock.sleep(self._manners.delay(seconds))

    def _break_if(self, point: BreakPoint) -> None:
        if self._transaction.break_at is point:
            self._writer.transport.abort()
            raise _BrokenOff

    def _note(self, reply: Reply, recipient: str, message_id: str = "") -> Reply:
        """Write a refusal or deferral of a recipient into the ledger; returns the reply."""
        self._around.store.record(
            Fact(
                at=self._around.clock.now(),
                kind="refused" if reply.is_final else "deferred",
                provider=self._provider.domain,
                recipient=recipient,
                mail_from=self._transaction.mail_from or "",
                message_id=message_id,
                code=reply.code,
                text=reply.one_line,
            )
        )
        return reply

    async def _ehlo(self, argument: str) -> Reply:
        self._transaction = _Transaction()
        self._helo = argument
        words = ["PIPELINING", f"SIZE {self._provider.size_limit}", "8BITMIME", "SMTPUTF8"]
        words.append("ENHANCEDSTATUSCODES")
        if self._provider.starttls and not self._tls:
            words.append("STARTTLS")
        return Reply(250, "", "\n".join([f"{self._host.name} at your service", *words]))

    async def _helo_(self, argument: str) -> Reply:
        self._transaction = _Transaction()
        self._helo = argument
        return Reply(250, "", self._host.name)

    async def _starttls(self, argument: str) -> Reply:
        if not self._provider.starttls or self._tls:
            return replies.TLS_NO
        if self._wire.has_buffered:
            # Commands sent ahead of the handshake would be taken as if they came encrypted.
            return Reply(503, "5.5.1", "Commands after STARTTLS are not allowed", closes=True)
        await self._send(replies.TLS_GO)
        await self._writer.start_tls(self._around.tls)
        cipher = self._writer.get_extra_info("cipher")
        self._tls = f"{cipher[1]} {cipher[0]}" if cipher else "TLS"
        self._wire = Wire(self._reader)
        self._helo, self._transaction = "", _Transaction()
        return replies.SILENCE

    async def _mail(self, argument: str) -> Reply:
        await self._wait(self._provider.command_delay)
        if not self._helo or self._transaction.mail_from is not None:
            return replies.BAD_SEQUENCE
        path = _PATH.match(argument[5:]) if argument[:5].upper() == "FROM:" else None
        if not path:
            return replies.BAD_SYNTAX
        size = re.search(r"\bSIZE=(\d{1,20})\b", path.group(2), re.IGNORECASE)
        if size and int(size.group(1)) > self._provider.size_limit:
            return replies.too_large(self._provider.size_limit)
        mail_from = path.group(1)
        self._transaction = _Transaction(mail_from, [], self._manners.break_point(mail_from))
        self._break_if(BreakPoint.MAIL)
        objection = self._manners.mail(self._ip, messages_before=self._messages)
        if objection:
            self._note(objection, "")
            self._transaction = _Transaction()
            return objection
        return Reply(250, "2.1.0", "OK")

    async def _rcpt(self, argument: str) -> Reply:
        await self._wait(self._provider.command_delay)
        transaction = self._transaction
        if transaction.mail_from is None:
            return replies.BAD_SEQUENCE
        path = _PATH.match(argument[3:]) if argument[:3].upper() == "TO:" else None
        if not path or "@" not in path.group(1):
            return replies.BAD_SYNTAX
        if len(transaction.recipients) >= MAX_RECIPIENTS:
            return replies.TOO_MANY_RECIPIENTS
        # Mailboxes of the simulated providers do not tell upper from lower case.
        address = path.group(1).lower()
        self._break_if(BreakPoint.RCPT)
        await self._around.clock.sleep(self._manners.slow_mailbox_delay(address))
        objection = self._manners.recipient(self._ip, transaction.mail_from, address)
        if objection:
            return self._note(objection, address)
        transaction.recipients.append(address)
        return Reply(250, "2.1.5", "OK")

    async def _data(self, argument: str) -> Reply:
        if self._transaction.mail_from is None:
            return replies.BAD_SEQUENCE
        if not self._transaction.recipients:
            return replies.NO_RECIPIENTS
        self._break_if(BreakPoint.DATA)
        await self._send(replies.GO_AHEAD)
        limit = self._provider.size_limit
        raw = await asyncio.wait_for(self._wire.data(limit), IDLE_SECONDS * 5)
        if raw is None:
            raise _BrokenOff
        self._messages += 1
        try:
            reply = await self._receive(raw)
        except sqlite3.Error:
            reply = replies.STORE_TROUBLE
        self._transaction = _Transaction()
        return reply

    async def _receive(self, raw: bytes) -> Reply:
        transaction = self._transaction
        mail_from = transaction.mail_from or ""
        headers = _headers(raw)
        verdict = await self._around.verify(
            ip=self._ip, helo=self._helo, mail_from=mail_from, raw=raw
        )
        await self._wait(self._provider.message_delay)
        objection: Reply | None = None
        if len(raw) > self._provider.size_limit:
            objection = replies.too_large(self._provider.size_limit)
        objection = objection or self._manners.message(self._ip, transaction.recipients, verdict)
        if objection:
            for recipient in transaction.recipients:
                self._note(objection, recipient, headers["message_id"])
            return objection
        stored = [
            await self._keep(recipient, headers, raw, verdict)
            for recipient in transaction.recipients
        ]
        self._break_if(BreakPoint.AFTER_DOT)
        return Reply(250, "2.0.0", f"OK queued as {stored[0].id}")

    async def _keep(
        self, recipient: str, headers: dict[str, str], raw: bytes, verdict: AuthVerdict | None
    ) -> Stored:
        delivery = Delivery(
            provider=self._provider.domain,
            recipient=recipient,
            mail_from=self._transaction.mail_from or "",
            raw=raw,
            authentication=verdict,
            received_at=self._around.clock.now(),
            source_ip=self._ip,
            tls=self._tls,
            is_acknowledged=self._transaction.break_at is not BreakPoint.AFTER_DOT,
            **headers,
        )
        stored = await self._around.store.add(delivery)
        self._around.on_stored(delivery, stored)
        return stored

    async def _rset(self, argument: str) -> Reply:
        self._transaction = _Transaction()
        return replies.OK

    async def _noop(self, argument: str) -> Reply:
        return replies.OK

    async def _vrfy(self, argument: str) -> Reply:
        return Reply(252, "2.1.5", "Send some mail, we will try our best")

    async def _quit(self, argument: str) -> Reply:
        return replies.BYE


def _headers(raw: bytes) -> dict[str, str]:
    """Return the headers that the store shows, decoded; missing ones are empty."""
    head = raw.split(b"\r\n\r\n", 1)[0] + b"\r\n\r\n"
    parsed = BytesHeaderParser(policy=compat32).parsebytes(head)
    return {
        "message_id": _decoded(parsed.get("Message-ID", "")).strip(),
        "subject": _decoded(parsed.get("Subject", "")),
        "sender": _decoded(parsed.get("From", "")),
    }


def _decoded(value: object) -> str:
    try:
        return str(make_header(decode_header(str(value))))
    except (LookupError, ValueError):
        return str(value)
