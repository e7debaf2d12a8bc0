"""What the engine takes and gives: values and Protocols, nothing else.

`sending.dispatch` implements the Protocols over the database and Valkey; the engine knows neither.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from esp.lib.clock import Clock

__all__ = [
    "Address",
    "AddressAnswer",
    "Clock",
    "Deliver",
    "Envelope",
    "Kind",
    "Lane",
    "MxAnswer",
    "MxHost",
    "Outcome",
    "Permit",
    "Phase",
    "Refusal",
    "Resolver",
    "Source",
    "Throttle",
    "TlsPolicy",
]

Kind = Literal["delivered", "deferred", "bounced"]

# Where an attempt ended, in the order of a session. "render" and "slice" come from the runner.
Phase = Literal[
    "render",
    "slice",
    "envelope",
    "throttle",
    "mx",
    "connect",
    "greeting",
    "ehlo",
    "tls",
    "mail",
    "rcpt",
    "data",
    "body",
]

TlsPolicy = Literal["opportunistic", "required", "never"]


@dataclass(frozen=True, slots=True)
class Source:
    """An address that mail leaves from: `address` is bound, `ehlo_name` is what we call it.

    Without an `address` the system chooses one of its own, for IPv4.
    """

    id: str
    address: str
    ehlo_name: str


@dataclass(frozen=True, slots=True)
class Envelope:
    """One message for one recipient, ready for the wire.

    `data` is the whole message with CRLF line ends, signed, not dot-stuffed; `mail_from` may be
    empty (a bounce); `domain` is the recipient's domain, which decides the route.
    """

    message_id: uuid.UUID
    mail_from: str
    rcpt_to: str
    domain: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Lane:
    """Source IP × site: the unit that limits and reputations hang on.

    `site` names whoever runs the mail servers behind a domain; two domains with the same set of
    MX hosts are one site.
    """

    source_id: str
    site: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one attempt; a value, so that it can be stored, counted and compared.

    `classification` is the unified "class/category" ("none/delivered" when delivered). `timings`
    holds seconds by phase. `is_ambiguous` says that the message's fate is unknown: the content was
    on its way and no reply came, so trying again may deliver it twice (RFC 1047).
    """

    kind: Kind
    phase: Phase
    classification: str
    text: str
    at: dt.datetime
    smtp_code: int | None = None
    enhanced_code: str | None = None
    mx_host: str | None = None
    mx_address: str | None = None
    source_address: str | None = None
    tls_version: str | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    is_ambiguous: bool = False


@dataclass(frozen=True, slots=True)
class MxHost:
    """A mail server's name as MX records give it; implicit MX has preference 0."""

    name: str
    preference: int


@dataclass(frozen=True, slots=True)
class MxAnswer:
    """Where a domain's mail goes, or why it cannot go.

    Either `hosts` has at least one entry, in the order to try, or `kind` and `classification` say
    what to do with mail for this domain.
    """

    domain: str
    hosts: tuple[MxHost, ...] = ()
    kind: Literal["deferred", "bounced"] | None = None
    classification: str = ""
    text: str = ""

    @property
    def site(self) -> str:
        """The site's name when nobody rolls it up by provider: the set of MX hosts."""
        return ",".join(sorted({host.name for host in self.hosts}))


@dataclass(frozen=True, slots=True)
class Address:
    """An IP address of an MX host; `refusal` says why we must not connect to it, if so."""

    ip: str
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class AddressAnswer:
    """The addresses of one MX host, and in `text` why there are none.

    `is_missing`: the name does not exist at all. A name without an address of the wanted version,
    or one that could not be looked up now, is not missing.
    """

    host: str
    addresses: tuple[Address, ...] = ()
    is_missing: bool = False
    text: str = ""

    @property
    def is_unusable(self) -> bool:
        """Whether nobody could ever deliver there: no such name, or no address we may go to."""
        return self.is_missing or (
            bool(self.addresses) and all(address.refusal for address in self.addresses)
        )


class Resolver(Protocol):
    """DNS as the engine needs it. Neither method raises for what a domain may contain."""

    async def mx(self, domain: str) -> MxAnswer:
        """Return the mail servers of `domain` in the order to try (RFC 5321 section 5.1)."""

    async def addresses(self, host: str, *, version: int) -> AddressAnswer:
        """Return the addresses of `host`; `version` is 4 or 6, that of the source address."""

    async def close(self) -> None:
        """Stop the look-ups under way."""


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to use one connection of a lane until it is released."""

    lane: Lane
    messages_per_connection: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a lane takes nothing now, in words for people, and when to ask again (seconds)."""

    reason: str
    retry_after_seconds: float


class Throttle(Protocol):
    """Says how much may flow in a lane now, and learns from what came of it."""

    async def acquire(self, lane: Lane) -> Permit | Refusal:
        """Return a permit, perhaps after a short wait, or the reason why there is none."""

    def release(self, permit: Permit) -> None:
        """Give the permit back; called exactly once for each permit, whatever happened."""

    def report(self, lane: Lane, outcome: Outcome) -> None:
        """Learn what came of an attempt in this lane."""


class Deliver(Protocol):
    """What the runner needs of `pool.Deliverer`."""

    def deliver(self, envelope: Envelope, source: Source) -> Awaitable[Outcome]:
        """Try once to deliver; returns what came of it and raises only on cancellation."""
