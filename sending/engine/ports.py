"""What the engine takes and gives: values and Protocols, nothing else.

`sending.dispatch` implements the Protocols over the database and Valkey; the engine knows neither.
Values are never changed once made. Those made for every message are not frozen all the same: that
makes them four times as dear (4.5 µs an Outcome), some 3 % of a message.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from esp.lib.clock import Clock

__all__ = [
    "Address",
    "AddressAnswer",
    "Carrier",
    "Clock",
    "Deliver",
    "Demand",
    "Envelope",
    "Kind",
    "Lane",
    "MxAnswer",
    "MxHost",
    "Order",
    "Outcome",
    "Permit",
    "Phase",
    "Refusal",
    "Relay",
    "Resolver",
    "Source",
    "Throttle",
    "TlsPolicy",
    "Way",
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
    "auth",
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
class Relay:
    """A server that takes all our mail instead of the domain's MX (a smarthost).

    `tls`: "implicit" (port 465, RFC 8314), "starttls" (must be offered), "opportunistic", "never".
    `verify` checks certificate and name. Credentials are for AUTH (RFC 4954): a password, or a
    bearer token with XOAUTH2; `certificate` and `key` are PEM texts of a client certificate.
    """

    host: str
    port: int
    tls: Literal["implicit", "starttls", "opportunistic", "never"] = "starttls"
    verify: bool = True
    auth: Literal["", "plain", "login", "xoauth2"] = ""
    username: str = ""
    secret: str = field(default="", repr=False)
    certificate: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    allow_private: bool = False


class Carrier(Protocol):
    """Takes a message over something else than SMTP (a provider's HTTP API)."""

    async def carry(self, order: Order, data: bytes) -> Outcome:
        """Hand `data` over once; returns what came of it and raises only on cancellation."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way a message may leave: from `source`, directly or through a relay or a carrier.

    `route` names the configured route, "" for the direct one. `weight` is its share among ways of
    the same `rank`; a higher rank is only tried when no way of a lower one has room.
    """

    source: Source
    route: str = ""
    relay: Relay | None = None
    carrier: Carrier | None = None
    rank: int = 0
    weight: int = 1


@dataclass(slots=True)
class Order:
    """One message for one recipient before its bytes exist.

    `make` renders, assembles and signs (CRLF line ends, not dot-stuffed); it is called once a
    permit is there, so that held messages cost nothing, and raises for content that cannot be sent.
    `tenant` and `batch` are names that limits hang on. `tls` is what the sender demands at least.
    """

    message_id: uuid.UUID
    mail_from: str
    rcpt_to: str
    domain: str
    tenant: str
    batch: str
    ways: tuple[Way, ...]
    make: Callable[[], Awaitable[bytes]] = field(repr=False)
    tls: TlsPolicy = "opportunistic"


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


@dataclass(slots=True)
class Outcome:
    """What came of one attempt; a value, so that it can be stored, counted and compared.

    `classification` is the unified "class/category" ("none/delivered" when delivered). `timings`
    holds seconds by phase. `is_ambiguous` says that the message's fate is unknown: the content was
    on its way and no reply came, so trying again may deliver it twice (RFC 1047).

    `lane` is where it was tried or held. With phase "throttle" nothing was tried: `hold` says what
    held it ("rate", "connections", "suspended", …) and `retry_after_seconds` when to ask again; for
    a deferral that is the hint in the server's reply, if there was one. `route` as in `Way`.
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
    lane: Lane | None = None
    route: str = ""
    hold: str = ""
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class MxHost:
    """A mail server's name as MX records give it; implicit MX has preference 0."""

    name: str
    preference: int


@dataclass(frozen=True, slots=True)
class MxAnswer:
    """Where a domain's mail goes, or why it cannot go.

    Either `hosts` has at least one entry, best first, or `kind` and `classification` say what to do
    with mail for this domain. `is_secure`: DNSSEC proves the answer.
    """

    domain: str
    hosts: tuple[MxHost, ...] = ()
    kind: Literal["deferred", "bounced"] | None = None
    classification: str = ""
    text: str = ""
    is_secure: bool = False

    @property
    def site(self) -> str:
        """The site's name when nobody rolls it up by provider: the set of MX hosts."""
        if len(self.hosts) == 1:
            return self.hosts[0].name
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
    is_secure: bool = False

    @property
    def is_unusable(self) -> bool:
        """Whether nobody could ever deliver there: no such name, or no address we may go to."""
        return self.is_missing or (
            bool(self.addresses) and all(address.refusal for address in self.addresses)
        )


class Resolver(Protocol):
    """DNS as the engine needs it. Neither method raises for what a domain may contain."""

    async def mx(self, domain: str) -> MxAnswer:
        """Return the mail servers of `domain`, best first."""

    async def addresses(self, host: str, *, version: int) -> AddressAnswer:
        """Return the addresses of `host`; `version` is 4 or 6, that of the source address."""

    async def close(self) -> None:
        """Stop the look-ups under way."""


@dataclass(slots=True)
class Demand:
    """What asks for room: a message's lane, and the other names that limits hang on."""

    lane: Lane
    tenant: str = ""
    batch: str = ""
    domain: str = ""


@dataclass(slots=True)
class Permit:
    """The right to send one message on one connection of a lane, until it is released."""

    demand: Demand
    messages_per_connection: int

    @property
    def lane(self) -> Lane:
        """The lane it counts in."""
        return self.demand.lane


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing may leave now, in words for people, and when to ask again (seconds).

    `hold` is a code: "connections", "rate", "cap", "suspended", "paused", "quarantine",
    "tenant-rate", "batch-rate", "domain-rate", "global-rate", "node", "route".
    """

    reason: str
    retry_after_seconds: float
    hold: str = "connections"


class Throttle(Protocol):
    """Says how much may flow now, and learns from what came of it."""

    async def acquire(self, demand: Demand, *, wait_seconds: float) -> Permit | Refusal:
        """Return a permit, waiting at most `wait_seconds` for one, or why there is none."""

    def release(self, permit: Permit) -> None:
        """Give the permit back; called exactly once for each permit, whatever happened."""

    def report(self, permit: Permit, outcome: Outcome) -> None:
        """Learn what came of an attempt under this permit; called before its release."""


class Deliver(Protocol):
    """What the runner needs of `pool.Deliverer`."""

    def deliver(self, order: Order) -> Awaitable[Outcome]:
        """Try once to deliver; returns what came of it and raises only on cancellation."""

    def is_leaving(self, order: Order) -> bool:
        """Tell whether any of the content of `order`, under way now, may have left.

        If not, its delivery can be cancelled and the message go again without harm.
        """
