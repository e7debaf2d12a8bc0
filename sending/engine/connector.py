"""From MX hosts to an open session: which host and address to try, in which order, how often."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from esp.lib.clock import Clock
from sending.engine.cache import TtlCache
from sending.engine.ports import (
    AddressAnswer,
    MxAnswer,
    MxHost,
    Outcome,
    Resolver,
    Source,
    TlsPolicy,
)
from sending.engine.session import Session, SessionSettings, open_session


@dataclass(frozen=True, slots=True)
class ConnectorSettings:
    """`max_tries` bounds the connections tried for one message; the memories are in seconds.

    An address that did not answer is not tried again for a while, so that one dead host does not
    cost every message of a campaign a connect timeout; one whose TLS broke gets plain text.
    """

    max_tries: int = 6
    unreachable_seconds: float = 30.0
    broken_tls_seconds: float = 3600.0
    memory_size: int = 20_000
    tls: TlsPolicy = "opportunistic"


class Connector:
    """Opens sessions, host by host; remembers which addresses are dead or break TLS."""

    def __init__(
        self,
        resolver: Resolver,
        *,
        session: SessionSettings,
        clock: Clock,
        settings: ConnectorSettings,
    ) -> None:
        self._resolver = resolver
        self._session = session
        self._clock = clock
        self._settings = settings
        self._dead: TtlCache[tuple[str, str], Outcome] = TtlCache(
            size=settings.memory_size, clock=clock
        )
        self._broken_tls: TtlCache[str, bool] = TtlCache(size=settings.memory_size, clock=clock)

    async def open(self, answer: MxAnswer, source: Source) -> Session | Outcome:
        """Return a session with the first MX host that takes one, or how the last try failed.

        Any failure before MAIL moves on to the next address (RFC 5321 section 5.1), a refusal in
        the greeting too: the other host may be in better spirits.
        """
        version = ipaddress.ip_address(source.address).version if source.address else 4
        answers: list[AddressAnswer] = []
        last: Outcome | None = None
        tries = 0
        async for host, addresses in self._resolved(answer, version):
            answers.append(addresses)
            for address in addresses.addresses:
                if address.refusal:
                    continue
                if tries >= self._settings.max_tries:
                    break
                tries += 1
                opened = await self._try(host.name, address.ip, source)
                if isinstance(opened, Session):
                    return opened
                last = _worse(last, opened)
        return last if last is not None else self._nowhere(answer, answers, source)

    async def _resolved(
        self, answer: MxAnswer, version: int
    ) -> AsyncIterator[tuple[MxHost, AddressAnswer]]:
        for host in answer.hosts:
            yield host, await self._resolver.addresses(host.name, version=version)

    async def _try(self, host: str, ip: str, source: Source) -> Session | Outcome:
        known = self._dead.get((source.id, ip))
        if known is not None:
            return replace(known, at=self._clock.now(), timings={})
        tls = self._settings.tls
        if tls == "opportunistic" and self._broken_tls.get(ip):
            tls = "never"
        opened = await self._open(host, ip, source, tls)
        if isinstance(opened, Outcome) and opened.phase == "tls" and tls == "opportunistic":
            self._broken_tls.put(ip, True, seconds=self._settings.broken_tls_seconds)
            opened = await self._open(host, ip, source, "never")
        if (
            isinstance(opened, Outcome)
            and opened.phase == "connect"
            and opened.classification == "soft/network-error"
        ):
            self._dead.put((source.id, ip), opened, seconds=self._settings.unreachable_seconds)
        return opened

    async def _open(self, host: str, ip: str, source: Source, tls: TlsPolicy) -> Session | Outcome:
        return await open_session(
            host=host, ip=ip, source=source, settings=self._session, clock=self._clock, tls=tls
        )

    def _nowhere(self, answer: MxAnswer, answers: list[AddressAnswer], source: Source) -> Outcome:
        """Say why there was no address to connect to."""
        refusals = [a.refusal for found in answers for a in found.addresses if a.refusal]
        texts = "; ".join([found.text for found in answers if found.text] + refusals)
        names = ", ".join(host.name for host in answer.hosts)
        is_loop = any("would loop" in refusal for refusal in refusals)
        is_final = bool(answers) and all(found.is_unusable for found in answers)
        return Outcome(
            kind="bounced" if is_final else "deferred",
            phase="mx",
            # A loop is a mistake of ours or of the domain's owner: it must not suppress anyone.
            classification="soft/network-error"
            if is_loop or not is_final
            else "hard/invalid-domain",
            text=f"No usable mail server for {answer.domain} ({names}): {texts}"[:1000],
            at=self._clock.now(),
            source_address=source.address,
        )


def _worse(last: Outcome | None, new: Outcome) -> Outcome:
    """Keep what says most: a server's words before a connection that did not come about."""
    if last is not None and last.smtp_code is not None and new.smtp_code is None:
        return last
    return new
