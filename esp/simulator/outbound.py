"""Mail that the simulated internet sends back: late bounces, complaints, automatic replies.

It goes by SMTP to the MX of the address's domain, found in the simulated zones, from the address of
the provider that it speaks for; so the product's inbound side meets it as it would meet real mail.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from ipaddress import ip_address
from uuid import UUID, uuid5

import aiosmtplib

from esp.simulator.clock import Clock
from esp.simulator.mailbox import Delivery
from esp.simulator.providers import Provider
from esp.simulator.zones import ZoneStore

CONCURRENCY = 4
# The product's inbound side may be starting or restarting: about two minutes of tries.
RETRY_SECONDS = (0.5, 2.0, 5.0, 15.0, 30.0, 60.0)
TIMEOUT_SECONDS = 20.0
_NAMESPACE = UUID("6f0a4c1e-6d0b-5b53-9d3c-6c5c5f0c7a11")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to send: the null sender is an empty `mail_from`."""

    provider: Provider
    mail_from: str
    recipient: str
    raw: bytes


class OutgoingFailed(Exception):
    """It could not be delivered, for good; the message says why."""


class Outbound:
    """Delivers the simulator's own mail, a few messages at a time."""

    def __init__(self, zones: ZoneStore, clock: Clock, port: Callable[[], int]) -> None:
        self._zones, self._clock, self._port = zones, clock, port
        self._slots = asyncio.Semaphore(CONCURRENCY)

    async def send(self, outgoing: Outgoing) -> None:
        """Deliver one message, trying again while the other side is away. Raises OutgoingFailed."""
        trouble = ""
        for pause in (*RETRY_SECONDS, None):
            try:
                async with self._slots:
                    await self._try(outgoing)
            except aiosmtplib.SMTPResponseException as error:
                if error.code >= 500:
                    raise OutgoingFailed(f"{error.code} {error.message}") from error
                trouble = f"{error.code} {error.message}"
            except (aiosmtplib.SMTPException, OSError) as error:
                trouble = str(error) or type(error).__name__
            else:
                return
            if pause is not None:
                await self._clock.sleep(pause)
        raise OutgoingFailed(trouble)

    async def _try(self, outgoing: Outgoing) -> None:
        address = self._mail_host(outgoing.recipient.rpartition("@")[2])
        me = outgoing.provider.mx[0]
        client = aiosmtplib.SMTP(
            hostname=address,
            port=self._port(),
            local_hostname=me.name,
            source_address=(me.address, 0),
            timeout=TIMEOUT_SECONDS,
            start_tls=None,
            validate_certs=False,
        )
        async with client:
            await client.mail(outgoing.mail_from)
            await client.rcpt(outgoing.recipient)
            await client.data(outgoing.raw)

    def _mail_host(self, domain: str) -> str:
        for host in self._zones.mail_hosts(domain):
            for address in self._zones.addresses(host):
                if ip_address(address).is_loopback:
                    return address
        raise OutgoingFailed(f"{domain} has no mail host in the simulated internet")


def _token(kind: str, delivery: Delivery) -> str:
    return uuid5(_NAMESPACE, f"{kind} {delivery.message_id} {delivery.recipient}").hex


def _message_id(kind: str, delivery: Delivery) -> str:
    return f"<{_token(kind, delivery)}@{delivery.provider}>"


def _boundary(kind: str, delivery: Delivery) -> str:
    return f"=_{kind}_{_token('boundary', delivery)}"


def _lines(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode("utf-8", "replace")


def _head(raw: bytes) -> bytes:
    return raw.split(b"\r\n\r\n", 1)[0] + b"\r\n"


def _encoding(octets: bytes) -> str:
    return "7bit" if octets.isascii() else "8bit"


def _safe(value: str) -> str:
    """A header value on one line: what a sender wrote cannot add headers to our mail."""
    return re.sub(r"[\r\n]+\s*", " ", value)


def late_bounce(delivery: Delivery, provider: Provider, *, at: float) -> Outgoing:
    """Build a DSN (RFC 3464) for a message that was accepted and could not be delivered after."""
    host, boundary = provider.mx[0].name, _boundary("dsn", delivery)
    head = _head(delivery.raw)
    reason = "550 5.1.1 The account was closed after this message was accepted"
    text = f"""\
From: Mail Delivery Subsystem <mailer-daemon@{provider.domain}>
To: {delivery.mail_from}
Subject: Delivery Status Notification (Failure)
Date: {formatdate(at)}
Message-ID: {_message_id("dsn", delivery)}
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="{boundary}"

--{boundary}
Content-Type: text/plain; charset=utf-8

Your message to {delivery.recipient} could not be delivered.
The response was: {reason}

--{boundary}
Content-Type: message/delivery-status

Reporting-MTA: dns; {host}
Arrival-Date: {formatdate(delivery.received_at)}

Original-Recipient: rfc822; {delivery.recipient}
Final-Recipient: rfc822; {delivery.recipient}
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; {reason}
Last-Attempt-Date: {formatdate(at)}

--{boundary}
Content-Type: text/rfc822-headers
Content-Transfer-Encoding: {_encoding(head)}

"""
    raw = _lines(text) + head + f"\r\n--{boundary}--\r\n".encode()
    return Outgoing(provider, "", delivery.mail_from, raw)


def complaint(delivery: Delivery, provider: Provider, *, to: str, at: float) -> Outgoing:
    """Build an abuse report (ARF, RFC 5965) about a message that a reader called spam."""
    sender = f"feedback@{provider.domain}"
    boundary = _boundary("arf", delivery)
    verdict = delivery.authentication
    result = verdict.header(provider.domain) if verdict else f"{provider.domain}; none"
    text = f"""\
From: {provider.title} Feedback Loop <{sender}>
To: {to}
Subject: FW: {_safe(delivery.subject)}
Date: {formatdate(at)}
Message-ID: {_message_id("arf", delivery)}
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="{boundary}"

--{boundary}
Content-Type: text/plain; charset=utf-8

This is an email abuse report for a message received from {delivery.source_ip}
on {formatdate(delivery.received_at)}.

--{boundary}
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: {provider.title}-FBL/1.0
Version: 1
Original-Mail-From: <{delivery.mail_from}>
Original-Rcpt-To: <{delivery.recipient}>
Arrival-Date: {formatdate(delivery.received_at)}
Source-IP: {delivery.source_ip}
Reported-Domain: {verdict.from_domain if verdict else delivery.mail_from.rpartition("@")[2]}
Authentication-Results: {result}

--{boundary}
Content-Type: message/rfc822
Content-Transfer-Encoding: {_encoding(delivery.raw)}

"""
    raw = _lines(text) + delivery.raw + f"\r\n--{boundary}--\r\n".encode()
    return Outgoing(provider, sender, to, raw)


def auto_reply(delivery: Delivery, provider: Provider, *, at: float) -> Outgoing:
    """Build an out-of-office reply (RFC 3834) to the return path, from the null sender."""
    text = f"""\
From: <{delivery.recipient}>
To: {delivery.mail_from}
Subject: Out of office: {_safe(delivery.subject)}
Date: {formatdate(at)}
Message-ID: {_message_id("ooo", delivery)}
In-Reply-To: {_safe(delivery.message_id)}
References: {_safe(delivery.message_id)}
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

I am out of the office and will read your message when I am back.
"""
    return Outgoing(provider, "", delivery.mail_from, _lines(text))


def unsubscribe_mail(delivery: Delivery, provider: Provider, *, to: str, at: float) -> Outgoing:
    """Build the mail that a mail program sends for a `mailto:` List-Unsubscribe (RFC 2369)."""
    text = f"""\
From: <{delivery.recipient}>
To: {to}
Subject: unsubscribe
Date: {formatdate(at)}
Message-ID: {_message_id("unsubscribe", delivery)}
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8

Please remove me from this list.
"""
    return Outgoing(provider, delivery.recipient, to, _lines(text))
