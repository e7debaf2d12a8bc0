"""The world of these tests: a name server, mail servers on loopback addresses, one engine."""

from __future__ import annotations

import random
import ssl
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from esp.lib.clock import SystemClock
from sending.engine.mx import MxSettings
from sending.engine.pool import Deliverer, PoolSettings, make_deliverer
from sending.engine.ports import Order, Outcome, Source, Throttle, TlsPolicy, Way
from sending.engine.smtp.connector import ConnectorSettings
from sending.engine.smtp.session import SessionSettings, Timeouts
from sending.engine.throttle import LaneLimits
from tests.engine_sink.dns_sink import DnsSink
from tests.engine_sink.sink import Sink, self_signed_context

SOURCE = Source("ip-1", "127.0.0.1", "out1.mailwright.test")
# For servers that hang or drip; with the others nobody waits for the end of a timeout, and a slow
# machine must not make one.
QUICK = Timeouts(
    connect=0.5, greeting=0.5, ehlo=0.5, tls=0.5, mail=0.5, rcpt=0.5, data=0.5, body=0.5,
    reset=0.5, quit=0.2,
)  # fmt: skip
PATIENT = Timeouts(
    connect=8, greeting=8, ehlo=8, tls=8, mail=8, rcpt=8, data=8, body=8, reset=8, quit=2,
)  # fmt: skip
BODY = b"From: a@acme.example\r\nSubject: hello\r\n\r\nHello Bob.\r\n"


def order(
    rcpt: str = "bob@plainmail.test",
    *,
    mail: str = "b.1@news.acme.example",
    data: bytes = BODY,
    make: Callable[[], Awaitable[bytes]] | None = None,
    domain: str | None = None,
    source: Source = SOURCE,
    ways: Sequence[Way] = (),
    tls: TlsPolicy = "opportunistic",
) -> Order:
    async def made() -> bytes:
        return data

    return Order(
        message_id=uuid.uuid4(),
        mail_from=mail,
        rcpt_to=rcpt,
        domain=domain or rcpt.rpartition("@")[2],
        tenant="acme",
        batch="spring",
        ways=tuple(ways) or (Way(source),),
        make=make or made,
        tls=tls,
    )


@dataclass
class World:
    """Everything real and on loopback; `plainmail.test` has one mail server at 127.0.0.2."""

    dns: DnsSink
    tls: ssl.SSLContext
    port: int = 0
    sinks: list[Sink] = field(default_factory=list)
    deliverers: list[Deliverer] = field(default_factory=list)

    async def sink(self, address: str = "127.0.0.2", **settings: object) -> Sink:
        sink = Sink(**settings)  # type: ignore[arg-type]
        await sink.start(address, self.port)
        self.port = sink.port
        self.sinks.append(sink)
        return sink

    def domain(self, name: str, *addresses: str) -> None:
        """Give `name` one MX host per address, in order of preference."""
        hosts = []
        for number, address in enumerate(addresses, start=1):
            self.dns.host(f"mx{number}.{name}", address)
            hosts.append(f"{number}0 mx{number}.{name}.")
        self.dns.mx(name, *hosts)

    def engine(
        self,
        *,
        limits: LaneLimits | None = None,
        timeouts: Timeouts | None = None,
        connector: ConnectorSettings | None = None,
        pool: PoolSettings | None = None,
        allow_private: bool = True,
        own_addresses: frozenset[str] = frozenset(),
        throttle: Throttle | None = None,
        hot_seconds: float = 1.0,
        site: str | None = None,
    ) -> Deliverer:
        if timeouts is None:
            timeouts = QUICK if any(sink.is_slow for sink in self.sinks) else PATIENT
        deliverer = make_deliverer(
            mx=MxSettings(
                nameservers=("127.0.0.1",),
                port=self.dns.port,
                timeout_seconds=2.0,
                lifetime_seconds=4.0,
                allow_private=allow_private,
                own_addresses=own_addresses,
            ),
            limits=limits,
            throttle=throttle,
            session=SessionSettings(port=self.port, timeouts=timeouts, hot_seconds=hot_seconds),
            connector=connector,
            pool=pool,
            clock=SystemClock(),
            rng=random.Random(1),
            site_for=(lambda _answer: site) if site is not None else None,
        )
        self.deliverers.append(deliverer)
        return deliverer

    async def send(
        self, sink_script: dict[str, object], **settings: object
    ) -> tuple[Outcome, Sink]:
        """Deliver one message to a sink with this script; nothing may stay connected afterwards."""
        sink = await self.sink(script=sink_script, **settings)
        deliverer = self.engine()
        outcome = await deliverer.deliver(order())
        await deliverer.close()
        await sink.until_closed()
        return outcome, sink


@pytest.fixture(scope="session")
def server_tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    folder: Path = tmp_path_factory.mktemp("tls")
    return self_signed_context(folder)


@pytest.fixture
async def world(server_tls: ssl.SSLContext) -> AsyncIterator[World]:
    dns_sink = DnsSink()
    await dns_sink.start()
    world = World(dns_sink, server_tls)
    world.domain("plainmail.test", "127.0.0.2")
    yield world
    for deliverer in world.deliverers:
        await deliverer.close()
    for sink in world.sinks:
        await sink.stop()
    await dns_sink.stop()
