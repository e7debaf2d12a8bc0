"""Mail to domains with a policy, delivered to real servers with good and bad certificates."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from esp.lib.clock import SystemClock
from sending.engine.mx import MxSettings
from sending.engine.pool import Deliverer, make_deliverer
from sending.engine.ports import Outcome
from sending.engine.secure.advisor import MemoryStore, StoredPolicy
from sending.engine.secure.mta_sts import StsPolicy
from sending.engine.secure.results import TlsReport
from sending.engine.smtp.connector import ConnectorSettings
from sending.engine.smtp.session import SessionSettings
from tests.engine_sink.conftest import QUICK, World, order
from tests.engine_sink.secure.authority import (
    Pair,
    make_authority,
    make_leaf,
    server_context,
    trusting,
)

HOST = "mx1.strict.test"
TLSA = f"_25._tcp.{HOST}"


@pytest.fixture(scope="module")
def authority() -> Pair:
    return make_authority()


class Strict:
    """`strict.test` with one server, and an engine that keeps policies."""

    def __init__(self, world: World, authority: Pair, folder: Path) -> None:
        self.world = world
        self.authority = authority
        self.folder = folder
        self.store = MemoryStore()
        self.engine: Deliverer | None = None
        world.domain("strict.test", "127.0.0.2")

    async def server(self, leaf: Pair | None = None) -> None:
        """Start the server, with the certificate `leaf` or without TLS."""
        features = ("8BITMIME", "STARTTLS") if leaf else ("8BITMIME",)
        tls = server_context(self.folder, leaf, self.authority) if leaf else None
        await self.world.sink(features=features, tls=tls)

    async def policy(self, mode: str = "enforce", mx: str = HOST) -> None:
        later = SystemClock().now().timestamp() + 600
        policy = StsPolicy(mode, 600, (mx,))  # type: ignore[arg-type]
        await self.store.save(StoredPolicy("strict.test", "a1", policy, later))

    def sign_names(self, record: str) -> None:
        self.world.dns.secure |= {"strict.test", HOST, TLSA}
        self.world.dns.records[f"{TLSA} TLSA"] = [record]

    async def send(self, domain: str = "strict.test") -> Outcome:
        if self.engine is None:
            self.engine = make_deliverer(
                mx=MxSettings(
                    nameservers=("127.0.0.1",),
                    port=self.world.dns.port,
                    timeout_seconds=0.3,
                    lifetime_seconds=0.6,
                    allow_private=True,
                    validates=True,
                ),
                session=SessionSettings(port=self.world.port, timeouts=QUICK),
                connector=ConnectorSettings(verified_context=lambda: trusting(self.authority)),
                clock=SystemClock(),
                policies=self.store,
            )
        return await self.engine.deliver(order(f"bob@{domain}"))

    def counted(self) -> dict[TlsReport, int]:
        assert self.engine is not None
        assert self.engine.advisor is not None
        return dict(self.engine.advisor.take_counts())

    def results(self) -> list[tuple[str, str]]:
        return sorted((report.policy_type, report.result) for report in self.counted())


@pytest.fixture
async def strict(world: World, authority: Pair, tmp_path: Path) -> AsyncIterator[Strict]:
    made = Strict(world, authority, tmp_path)
    yield made
    if made.engine is not None:
        await made.engine.close()


async def test_a_good_certificate_is_delivered_to_and_counted(strict: Strict) -> None:
    await strict.policy()
    await strict.server(make_leaf(strict.authority, HOST))
    outcome = await strict.send()
    assert (outcome.kind, outcome.tls_version) == ("delivered", "TLSv1.3")
    report = TlsReport("strict.test", "sts", "success", HOST, "127.0.0.1")
    assert strict.counted() == {report: 1}


@pytest.mark.parametrize(
    ("names", "days", "result"),
    [
        (("mx.evil.test",), 30, "certificate-host-mismatch"),
        ((HOST,), -1, "certificate-expired"),
    ],
)
async def test_a_bad_certificate_waits_and_never_gets_plain_text(
    strict: Strict, names: tuple[str, ...], days: int, result: str
) -> None:
    await strict.policy()
    await strict.server(make_leaf(strict.authority, *names, ends_in_days=days))
    outcome = await strict.send()
    assert (outcome.kind, outcome.phase, outcome.classification) == (
        "deferred", "tls", "soft/tls-failure",
    )  # fmt: skip
    assert strict.world.sinks[0].messages == []
    assert strict.results() == [("sts", result)]


async def test_an_unknown_authority_is_not_trusted(strict: Strict) -> None:
    await strict.policy()
    await strict.server(make_leaf(make_authority("Another"), HOST))
    assert (await strict.send()).kind == "deferred"
    assert strict.results() == [("sts", "certificate-not-trusted")]


async def test_a_server_that_hides_starttls_gets_nothing(strict: Strict) -> None:
    await strict.policy()
    await strict.server()
    outcome = await strict.send()
    assert (outcome.kind, outcome.phase) == ("deferred", "tls")
    assert strict.results() == [("sts", "starttls-not-supported")]


async def test_a_policy_in_testing_counts_and_delivers(strict: Strict) -> None:
    await strict.policy("testing")
    await strict.server(make_leaf(strict.authority, "mx.evil.test"))
    assert (await strict.send()).kind == "delivered"
    assert strict.results() == [("sts", "certificate-host-mismatch")]


async def test_a_host_that_the_policy_does_not_name_is_not_spoken_to(strict: Strict) -> None:
    await strict.policy(mx="other.strict.test")
    await strict.server(make_leaf(strict.authority, HOST))
    outcome = await strict.send()
    assert outcome.kind == "deferred"
    assert "does not name mx1.strict.test" in outcome.text
    assert strict.world.sinks[0].connections == 0
    assert strict.results() == [("sts", "validation-failure")]


async def test_one_domains_policy_does_not_stop_another_on_the_same_servers(
    strict: Strict,
) -> None:
    await strict.policy()
    await strict.server(make_leaf(strict.authority, "mx.evil.test"))
    strict.world.dns.mx("plain.test", f"10 {HOST}.")
    assert (await strict.send("plain.test")).kind == "delivered"
    # The session that plain.test has left behind proves nothing for strict.test.
    assert (await strict.send()).kind == "deferred"
    assert (await strict.send("plain.test")).kind == "delivered"


async def test_an_operator_can_demand_it_of_any_domain(strict: Strict) -> None:
    await strict.server(make_leaf(strict.authority, "mx.evil.test"))
    strict.world.dns.mx("bank.test", f"10 {HOST}.")
    assert (await strict.send("plain.test")).kind == "bounced"  # no such domain; builds the engine
    assert strict.engine is not None
    assert strict.engine.advisor is not None
    strict.engine.advisor.required_domains = frozenset({"bank.test"})
    assert (await strict.send("bank.test")).phase == "tls"


async def test_dane_takes_the_named_key_and_no_other(strict: Strict) -> None:
    leaf = make_leaf(make_authority("Self-made"), "whatever.test", ends_in_days=-5)
    strict.sign_names(f"3 1 1 {hashlib.sha256(leaf.spki).hexdigest()}")
    await strict.server(leaf)
    assert (await strict.send()).kind == "delivered"
    assert strict.results() == [("tlsa", "success")]


async def test_dane_refuses_another_key(strict: Strict) -> None:
    strict.sign_names("3 1 1 " + "ab" * 32)
    await strict.server(make_leaf(strict.authority, HOST))
    outcome = await strict.send()
    assert (outcome.kind, outcome.phase) == ("deferred", "tls")
    assert "TLSA" in outcome.text
    assert strict.world.sinks[0].messages == []
    assert strict.results() == [("tlsa", "validation-failure")]


async def test_dane_takes_a_named_authority(strict: Strict) -> None:
    strict.sign_names(f"2 0 1 {hashlib.sha256(strict.authority.der).hexdigest()}")
    await strict.server(make_leaf(strict.authority, HOST))
    assert (await strict.send()).kind == "delivered"


async def test_dane_that_cannot_be_looked_up_waits(strict: Strict) -> None:
    strict.sign_names("3 1 1 " + "ab" * 32)
    strict.world.dns.faults[TLSA] = "servfail"
    await strict.server(make_leaf(strict.authority, HOST))
    outcome = await strict.send()
    assert outcome.kind == "deferred"
    assert strict.world.sinks[0].connections == 0
    assert strict.results() == [("tlsa", "dnssec-invalid")]


async def test_without_a_policy_sessions_are_counted_too(strict: Strict) -> None:
    await strict.server()
    assert (await strict.send()).kind == "delivered"
    assert strict.results() == [("no-policy-found", "starttls-not-supported")]
