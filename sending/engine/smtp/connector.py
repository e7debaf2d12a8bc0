"""From MX hosts or a relay to an open session: what to try, in which order, how often."""

from __future__ import annotations

import ipaddress
import random
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

from esp.lib.clock import Clock
from sending.engine.cache import TtlCache
from sending.engine.mx import equals_drawn, is_public
from sending.engine.ports import (
    Address,
    AddressAnswer,
    MxAnswer,
    MxHost,
    Outcome,
    Relay,
    Resolver,
    TlsPolicy,
)
from sending.engine.secure.advisor import TlsAdvisor
from sending.engine.smtp.guard import Guard
from sending.engine.smtp.session import Origin, Session, SessionSettings, open_session
from sending.engine.smtp.tls import Mode, Security, relay_security, verifying_context


@dataclass(frozen=True, slots=True)
class ConnectorSettings:
    """`max_tries` bounds the connections tried for one message; the memories are in seconds.

    An address that did not answer is not tried again for a while, so that one dead host does not
    cost every message of a campaign a connect timeout; one whose TLS broke gets plain text. `tls`
    is what every message demands at least.
    """

    max_tries: int = 6
    unreachable_seconds: float = 30.0
    broken_tls_seconds: float = 3600.0
    no_chunks_seconds: float = 3600.0
    memory_size: int = 20_000
    tls: TlsPolicy = "opportunistic"
    verified_context: Callable[[], ssl.SSLContext] = verifying_context


class Connector:
    """Opens sessions, host by host; remembers which addresses are dead or break TLS."""

    def __init__(
        self,
        resolver: Resolver,
        *,
        session: SessionSettings,
        clock: Clock,
        settings: ConnectorSettings,
        advisor: TlsAdvisor | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._resolver = resolver
        self._advisor = advisor
        self._rng = rng or random.Random()  # noqa: S311 (spreads load, guards nothing)
        self._session = session
        self._clock = clock
        self._settings = settings
        self._dead: TtlCache[tuple[str, str, int], Outcome] = TtlCache(
            size=settings.memory_size, clock=clock
        )
        self._no_chunks: TtlCache[tuple[str, int], bool] = TtlCache(
            size=settings.memory_size, clock=clock
        )
        self._broken_tls: TtlCache[str, bool] = TtlCache(size=settings.memory_size, clock=clock)

    async def open(
        self, target: MxAnswer | Relay, origin: Origin, *, tls: TlsPolicy = "opportunistic"
    ) -> Session | Outcome:
        """Return a session with the first MX host that takes one, or how the last try failed.

        Any failure before MAIL moves on to the next address (RFC 5321 section 5.1), a refusal in
        the greeting too: the other host may be in better spirits. A relay brings its own port and
        TLS, and is one host with perhaps several addresses.
        """
        if isinstance(target, Relay):
            return await self._open_relay(target, origin, tls)
        demand = _stricter(self._settings.tls, tls)
        answers: list[AddressAnswer] = []
        last: Outcome | None = None
        tries = 0
        async for host, addresses in self._resolved(target, _version(origin)):
            answers.append(addresses)
            guard = await self._guard(target, host.name, addresses, origin)
            if guard.refusal:
                text = f"{host.name} must not be used: {guard.refusal}."
                last = _worse(last, self._failed(text, origin))
                continue
            for address in addresses.addresses:
                if address.refusal:
                    continue
                if tries >= self._settings.max_tries:
                    break
                tries += 1
                opened = await self._try(host.name, address.ip, origin, demand, guard)
                if isinstance(opened, Session):
                    return opened
                last = _worse(last, opened)
        if last is not None:
            return last
        names = ", ".join(host.name for host in target.hosts)
        return self._nowhere(f"{target.domain} ({names})", answers, origin)

    def remember_failed_chunks(self, session: Session) -> None:
        """Send no content together with its commands there for a while: it cut, or knew no BDAT."""
        where = (session.ip, session.port)
        self._no_chunks.put(where, True, seconds=self._settings.no_chunks_seconds)

    async def _resolved(
        self, answer: MxAnswer, version: int
    ) -> AsyncIterator[tuple[MxHost, AddressAnswer]]:
        for host in equals_drawn(answer.hosts, self._rng):
            yield host, await self._resolver.addresses(host.name, version=version)

    async def _guard(
        self, answer: MxAnswer, host: str, addresses: AddressAnswer, origin: Origin
    ) -> Guard:
        """Return what the domain's policy says of `host`; without an advisor, nothing."""
        if self._advisor is None:
            return Guard()
        rule = await self._advisor.rule_for(answer, host, is_secure=addresses.is_secure)
        return Guard(self._advisor, rule, answer.domain, host, origin.source.address)

    async def _try(
        self, host: str, ip: str, origin: Origin, tls: TlsPolicy, guard: Guard
    ) -> Session | Outcome:
        """Open a session as the policy demands; where it only tests, a failure is but counted."""
        if guard.is_strict:
            strict = guard.security(self._session.tls_context, self._settings.verified_context)
            opened = await self._reach(host, ip, origin, strict)
            if isinstance(opened, Session) or opened.phase != "tls" or not guard.is_testing:
                return opened
        if tls == "opportunistic" and self._broken_tls.get(ip):
            tls = "never"
        opened = await self._reach(host, ip, origin, self._security(tls, guard))
        if isinstance(opened, Outcome) and opened.phase == "tls" and tls == "opportunistic":
            self._broken_tls.put(ip, True, seconds=self._settings.broken_tls_seconds)
            opened = await self._reach(host, ip, origin, self._security("never", guard))
        return opened

    def _security(self, tls: TlsPolicy, guard: Guard) -> Security:
        mode: Mode = "starttls" if tls == "required" else tls
        return Security(mode, self._session.tls_context, note=guard.note_plain)

    async def _open_relay(self, relay: Relay, origin: Origin, tls: TlsPolicy) -> Session | Outcome:
        """Open a session with a relay; where it is not to be had the outcome is a deferral."""
        try:
            security = relay_security(relay)
        except ValueError as error:
            return self._failed(f"The relay {relay.host} cannot be used: {error}.", origin)
        if tls == "required" and security.mode in ("opportunistic", "never"):
            security = replace(security, mode="starttls")
        found = await self._relay_addresses(relay, _version(origin))
        last: Outcome | None = None
        for address in found.addresses[: self._settings.max_tries]:
            if address.refusal and not relay.allow_private:
                continue
            opened = await self._reach(relay.host, address.ip, origin, security, relay)
            if isinstance(opened, Session):
                return opened
            last = _worse(last, opened)
        if last is not None:
            # What a relay says while the session opens is between it and us, never the recipient's.
            return replace(last, kind="deferred")
        return replace(self._nowhere(f"the relay {relay.host}", [found], origin), kind="deferred",
                       classification="soft/network-error")  # fmt: skip

    async def _relay_addresses(self, relay: Relay, version: int) -> AddressAnswer:
        host = "127.0.0.1" if relay.host.lower() == "localhost" else relay.host  # RFC 6761
        try:
            ip = ipaddress.ip_address(host)
        except ValueError:
            return await self._resolver.addresses(host, version=version)
        if ip.version != version:
            return AddressAnswer(host, text=f"{host} is no IPv{version} address")
        refusal = "" if is_public(ip) else f"{ip} is not a public address"
        return AddressAnswer(host, (Address(str(ip), refusal),))

    async def _reach(
        self,
        host: str,
        ip: str,
        origin: Origin,
        security: Security,
        relay: Relay | None = None,
    ) -> Session | Outcome:
        """Open a session unless this address is known to be dead from this source."""
        port = relay.port if relay is not None else self._session.port
        key = (origin.source.id, ip, port)
        known = self._dead.get(key)
        if known is not None:
            return origin.mark(replace(known, at=self._clock.now(), timings={}))
        opened = await open_session(
            host=host, ip=ip, port=port, origin=origin, settings=self._session, clock=self._clock,
            security=security, login=relay, may_chunk=not self._no_chunks.get((ip, port)),
        )  # fmt: skip
        if (
            isinstance(opened, Outcome)
            and opened.phase == "connect"
            and opened.classification == "soft/network-error"
        ):
            self._dead.put(key, opened, seconds=self._settings.unreachable_seconds)
        return opened

    def _nowhere(self, where: str, answers: list[AddressAnswer], origin: Origin) -> Outcome:
        """Say why there was no address to connect to."""
        refusals = [a.refusal for found in answers for a in found.addresses if a.refusal]
        texts = "; ".join([found.text for found in answers if found.text] + refusals)
        is_loop = any("would loop" in refusal for refusal in refusals)
        is_final = bool(answers) and all(found.is_unusable for found in answers)
        return Outcome(
            kind="bounced" if is_final else "deferred",
            phase="mx",
            # A loop is a mistake of ours or of the domain's owner: it must not suppress anyone.
            classification="soft/network-error"
            if is_loop or not is_final
            else "hard/invalid-domain",
            text=f"No usable mail server for {where}: {texts}"[:1000],
            at=self._clock.now(),
            source_address=origin.source.address,
            lane=origin.lane,
            route=origin.route,
        )

    def _failed(self, text: str, origin: Origin) -> Outcome:
        return Outcome(
            kind="deferred",
            phase="tls",
            classification="soft/tls-failure",
            text=text[:1000],
            at=self._clock.now(),
            source_address=origin.source.address,
            lane=origin.lane,
            route=origin.route,
        )


def _version(origin: Origin) -> int:
    address = origin.source.address
    return ipaddress.ip_address(address).version if address else 4


def _stricter(first: TlsPolicy, second: TlsPolicy) -> TlsPolicy:
    """Return the demand that satisfies both; "never" only where nobody asks for more."""
    if "required" in (first, second):
        return "required"
    return "never" if "never" in (first, second) else "opportunistic"


def _worse(last: Outcome | None, new: Outcome) -> Outcome:
    """Keep what says most: a server's words before a connection that did not come about."""
    if last is not None and last.smtp_code is not None and new.smtp_code is None:
        return last
    return new
