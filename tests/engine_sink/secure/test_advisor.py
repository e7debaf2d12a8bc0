"""What holds for an MX host, asked of real DNS and a real policy server on loopback."""

from __future__ import annotations

import asyncio
import hashlib
import http.server
import random
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from esp.lib.clock import SystemClock
from sending.engine.mx import MxResolver, MxSettings
from sending.engine.ports import MxAnswer
from sending.engine.secure.advisor import (
    AdvisorSettings,
    HostRule,
    MemoryStore,
    StoredPolicy,
    TlsAdvisor,
)
from sending.engine.secure.fetch import FetchSettings
from sending.engine.secure.mta_sts import StsPolicy
from sending.engine.secure.results import TlsReport
from tests.engine_sink.dns_sink import DnsSink
from tests.engine_sink.secure.authority import (
    Pair,
    make_authority,
    make_leaf,
    server_context,
    trusting,
)

POLICY = "version: STSv1\nmode: {mode}\nmx: mx1.strict.test\nmax_age: 86400\n"


@dataclass
class PolicyServer:
    """An HTTPS server that gives one answer; `served` counts."""

    body: bytes = POLICY.format(mode="enforce").encode()
    status: int = 200
    kind: str = "text/plain"
    served: list[str] = field(default_factory=list)
    port: int = 0


@pytest.fixture(scope="module")
def authority() -> Pair:
    return make_authority()


@pytest.fixture
def policies(authority: Pair, tmp_path: Path) -> Iterator[PolicyServer]:
    site = PolicyServer()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.served.append(f"{self.headers['Host']}{self.path}")
            self.send_response(site.status)
            self.send_header("Content-Type", site.kind)
            self.send_header("Location", "https://elsewhere.test/policy")
            self.end_headers()
            self.wfile.write(site.body)

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    context = server_context(tmp_path, make_leaf(authority, "mta-sts.strict.test"), authority)
    # The handshake belongs to the thread of the request, not to the one that accepts.
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    site.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield site
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
async def names() -> AsyncIterator[DnsSink]:
    sink = DnsSink()
    await sink.start()
    sink.mx("strict.test", "10 mx1.strict.test.")
    sink.host("mx1.strict.test", "127.0.0.2")
    sink.host("mta-sts.strict.test", "127.0.0.1")
    sink.records["_mta-sts.strict.test TXT"] = ['"v=STSv1; id=a1;"']
    yield sink
    await sink.stop()


class World:
    """An advisor with all that it asks."""

    def __init__(
        self,
        names: DnsSink,
        policies: PolicyServer,
        context: ssl.SSLContext,
        *,
        validates: bool = False,
        allow_private: bool = True,
    ) -> None:
        self.clock = SystemClock()
        self.resolver = MxResolver(
            MxSettings(
                nameservers=("127.0.0.1",),
                port=names.port,
                timeout_seconds=0.3,
                lifetime_seconds=0.6,
                allow_private=allow_private,
                validates=validates,
            ),
            clock=self.clock,
            rng=random.Random(1),
        )
        self.store = MemoryStore()
        fetch = FetchSettings(port=policies.port, timeout_seconds=2, context=context)
        self.advisor = TlsAdvisor(
            self.resolver, self.store, settings=AdvisorSettings(fetch=fetch), clock=self.clock
        )

    async def rule(self, host: str = "mx1.strict.test", domain: str = "strict.test") -> HostRule:
        answer = await self.resolver.mx(domain)
        found = await self.resolver.addresses(host, version=4)
        return await self.advisor.rule_for(answer, host, is_secure=found.is_secure)


@pytest.fixture
def world(names: DnsSink, policies: PolicyServer, authority: Pair) -> World:
    return World(names, policies, trusting(authority))


async def test_a_policy_demands_a_verified_host(world: World, policies: PolicyServer) -> None:
    assert await world.rule() == HostRule("verified", "sts")
    assert policies.served == ["mta-sts.strict.test/.well-known/mta-sts.txt"]


async def test_a_host_outside_the_policy_is_refused_with_the_reason(
    world: World, names: DnsSink
) -> None:
    names.host("mx9.evil.test", "127.0.0.3")
    rule = await world.rule("mx9.evil.test")
    assert "does not name mx9.evil.test" in rule.refusal
    assert not rule.is_testing


async def test_a_policy_in_testing_refuses_nothing(world: World, policies: PolicyServer) -> None:
    policies.body = POLICY.format(mode="testing").encode()
    assert await world.rule() == HostRule("verified", "sts", is_testing=True)


async def test_mode_none_and_no_record_demand_nothing(
    world: World, names: DnsSink, policies: PolicyServer
) -> None:
    policies.body = b"version: STSv1\nmode: none\nmax_age: 60\n"
    assert await world.rule() == HostRule()
    names.mx("plain.test", "10 mx1.strict.test.")
    assert await world.rule(domain="plain.test") == HostRule()


async def test_it_fetches_once_for_many_messages(world: World, policies: PolicyServer) -> None:
    await asyncio.gather(*(world.rule() for _ in range(20)))
    await world.rule()
    assert len(policies.served) == 1


async def test_a_stored_policy_outlives_its_record(
    world: World, names: DnsSink, policies: PolicyServer
) -> None:
    del names.records["_mta-sts.strict.test TXT"]
    await world.store.save(
        StoredPolicy(
            "strict.test", "a0", StsPolicy("enforce", 60, ("mx1.strict.test",)),
            world.clock.now().timestamp() + 60,
        )
    )  # fmt: skip
    assert (await world.rule()).demand == "verified"
    assert policies.served == []


async def test_an_ended_policy_does_not_hold(world: World, names: DnsSink) -> None:
    del names.records["_mta-sts.strict.test TXT"]
    policy = StsPolicy("enforce", 60, ("mx1.strict.test",))
    ended = world.clock.now().timestamp() - 1
    await world.store.save(StoredPolicy("strict.test", "a0", policy, ended))
    assert await world.rule() == HostRule()


async def test_a_new_id_brings_the_new_policy(world: World, policies: PolicyServer) -> None:
    old = StsPolicy("enforce", 600, ("old.strict.test",))
    later = world.clock.now().timestamp() + 600
    await world.store.save(StoredPolicy("strict.test", "a0", old, later))
    assert (await world.rule()).refusal == ""
    stored = await world.store.load("strict.test")
    assert stored is not None
    assert stored.policy_id == "a1"


@pytest.mark.parametrize(
    ("change", "result"),
    [
        ({"status": 302}, "sts-policy-fetch-error"),
        ({"status": 404}, "sts-policy-fetch-error"),
        ({"kind": "text/html"}, "sts-policy-fetch-error"),
        ({"body": b"version: STSv1\nmode: enforce\n"}, "sts-policy-invalid"),
        ({"body": b"x" * 100_000}, "sts-policy-fetch-error"),
    ],
)
async def test_a_broken_policy_is_counted_and_the_old_one_holds(
    world: World, policies: PolicyServer, change: dict[str, object], result: str
) -> None:
    for name, value in change.items():
        setattr(policies, name, value)
    old = StsPolicy("enforce", 600, ("mx1.strict.test",))
    later = world.clock.now().timestamp() + 600
    await world.store.save(StoredPolicy("strict.test", "a0", old, later))
    assert (await world.rule()).demand == "verified"
    await world.rule()
    assert world.advisor.take_counts() == {TlsReport("strict.test", "sts", result): 1}  # type: ignore[arg-type]


async def test_a_policy_server_must_prove_its_name(names: DnsSink, policies: PolicyServer) -> None:
    world = World(names, policies, trusting(make_authority("Another")))
    assert await world.rule() == HostRule()
    assert world.advisor.take_counts() == {TlsReport("strict.test", "sts", "sts-webpki-invalid"): 1}


async def test_it_never_fetches_from_our_own_network(
    names: DnsSink, policies: PolicyServer, authority: Pair
) -> None:
    world = World(names, policies, trusting(authority), allow_private=False)
    assert await world.rule() == HostRule()
    assert policies.served == []


# --- DANE ---


@pytest.fixture
def signed(names: DnsSink, policies: PolicyServer, authority: Pair) -> World:
    names.secure |= {"strict.test", "mx1.strict.test", "_25._tcp.mx1.strict.test"}
    key = hashlib.sha256(authority.spki).hexdigest()
    names.records["_25._tcp.mx1.strict.test TLSA"] = [f"3 1 1 {key}"]
    return World(names, policies, trusting(authority), validates=True)


async def test_dane_wins_over_mta_sts(signed: World, policies: PolicyServer) -> None:
    rule = await signed.rule()
    assert (rule.demand, rule.policy_type) == ("dane", "tlsa")
    assert rule.names == ("mx1.strict.test", "strict.test")
    assert policies.served == []


async def test_unsigned_names_have_no_dane(signed: World, names: DnsSink) -> None:
    names.secure.discard("strict.test")
    assert (await signed.rule()).policy_type == "sts"


async def test_the_flag_of_a_resolver_that_checks_nothing_is_not_believed(
    signed: World, names: DnsSink, policies: PolicyServer, authority: Pair
) -> None:
    plain = World(names, policies, trusting(authority), validates=False)
    assert (await plain.rule()).policy_type == "sts"


async def test_records_that_cannot_be_used_still_demand_encryption(
    signed: World, names: DnsSink
) -> None:
    names.records["_25._tcp.mx1.strict.test TLSA"] = ["1 1 1 " + "ab" * 32]
    assert await signed.rule() == HostRule("encrypted", "tlsa")


async def test_a_bogus_answer_leaves_the_host_out(signed: World, names: DnsSink) -> None:
    names.faults["_25._tcp.mx1.strict.test"] = "servfail"
    rule = await signed.rule()
    assert "could not be looked up safely" in rule.refusal
    assert rule.refusal_result == "dnssec-invalid"


async def test_a_domain_that_an_operator_named_needs_a_verified_host(
    world: World, names: DnsSink
) -> None:
    names.mx("bank.test", "10 mx1.strict.test.")
    world.advisor.required_domains = frozenset({"bank.test"})
    assert (await world.rule(domain="bank.test")).demand == "verified"
    answer = MxAnswer("plain.test")
    assert await world.advisor.rule_for(answer, "mx1.strict.test", is_secure=False) == HostRule()
