"""Domains whose DNS means harm: each look-up ends soon, and nothing of it is believed or kept."""

from __future__ import annotations

import asyncio
import ipaddress
import time

import pytest

from sending.engine.mx import MAX_RECORDS, MAX_TEXT_OCTETS, is_public
from sending.engine.smtp.connector import ConnectorSettings
from tests.engine_sink.conftest import QUICK, World, order
from tests.engine_sink.test_mx import resolver


@pytest.mark.parametrize(
    "fault", ["garbage", "empty", "wrong-id", "wrong-question", "overlong", "deaf"]
)
async def test_an_answer_that_is_none_defers_in_time(world: World, fault: str) -> None:
    world.dns.faults["lies.test"] = fault  # type: ignore[assignment]
    start = time.monotonic()
    lookup = resolver(world.dns)
    answer = await lookup.mx("lies.test")
    assert time.monotonic() - start < 5
    assert (answer.kind, answer.classification) == ("deferred", "soft/network-error")
    assert answer.hosts == ()
    assert "evil.test" not in answer.text
    await lookup.close()


@pytest.mark.parametrize("length", [2, 20, 200])
@pytest.mark.parametrize("start", ["mail", "mx host"])
async def test_long_ways_of_cnames_end(world: World, length: int, start: str) -> None:
    """A ring of `length` names, met as the domain or as the domain's mail server."""
    for number in range(length):
        world.dns.records[f"c{number}.test CNAME"] = [f"c{(number + 1) % length}.test."]
    domain = "c0.test"
    if start == "mx host":
        domain = "ring.test"
        world.dns.mx(domain, "10 c0.test.")
    world.port = 1
    engine = world.engine()
    outcome = await asyncio.wait_for(engine.deliver(order(f"bob@{domain}")), 10)
    assert outcome.kind in ("deferred", "bounced")
    assert outcome.phase == "mx"
    assert sum(world.dns.questions.values()) < 20


async def test_a_chain_of_cnames_that_ends_far_away_is_not_followed_for_ever(
    world: World,
) -> None:
    for number in range(40):
        world.dns.records[f"c{number}.test CNAME"] = [f"c{number + 1}.test."]
    world.dns.records["c40.test MX"] = ["10 mx1.plainmail.test."]
    answer = await resolver(world.dns).mx("c0.test")
    assert (answer.kind, answer.hosts) == ("deferred", ())


async def test_a_ring_of_texts_costs_the_policy_and_not_the_mail(world: World) -> None:
    for number in range(20):
        world.dns.records[f"t{number}.test CNAME"] = [f"t{(number + 1) % 20}.test."]
    assert await resolver(world.dns).texts("t0.test") == ()


async def test_thousands_of_hosts_are_cut_before_they_are_kept(world: World) -> None:
    world.dns.mx("many.test", *[f"{9000 - n} mx{n}.many.test." for n in range(1500)])
    world.dns.faults["many.test"] = "truncate"
    lookup = resolver(world.dns, timeout_seconds=5, lifetime_seconds=10)
    answer = await lookup.mx("many.test")
    # The best of all, wherever they stood in the answer.
    assert [host.preference for host in answer.hosts] == [7501, 7502, 7503, 7504, 7505]
    kept = lookup._cache.get(("many.test", "MX"))
    assert kept is not None
    assert len(kept.records) == MAX_RECORDS


async def test_a_hundred_addresses_are_cut_and_spread(world: World) -> None:
    addresses = [f"127.0.{n}.7" for n in range(1, 101)]
    world.dns.host("mx.wide.test", *addresses)
    world.dns.faults["mx.wide.test"] = "truncate"
    lookup = resolver(world.dns, timeout_seconds=5, lifetime_seconds=10)
    answers = [await lookup.addresses("mx.wide.test", version=4) for _ in range(20)]
    assert {len(answer.addresses) for answer in answers} == {4}
    assert len({address.ip for answer in answers for address in answer.addresses}) > 10


async def test_a_hundred_dead_addresses_cost_a_few_tries(world: World) -> None:
    sink = await world.sink()  # takes the port elsewhere: nobody listens at the others
    names = [f"mx{n}.dead.test" for n in range(100)]
    for number, name in enumerate(names):
        world.dns.host(name, *[f"127.1.{number}.{n}" for n in range(1, 5)])
    world.dns.mx("dead.test", *[f"10 {name}." for name in names])
    world.dns.faults["dead.test"] = "truncate"
    engine = world.engine(timeouts=QUICK, connector=ConnectorSettings(max_tries=6))
    outcome = await asyncio.wait_for(engine.deliver(order("bob@dead.test")), 10)
    assert (outcome.kind, outcome.classification) == ("deferred", "soft/network-error")
    asked = [name for name in world.dns.questions if name.endswith(".dead.test A")]
    assert len(asked) <= 5
    assert sink.connections == 0


async def test_huge_texts_are_not_kept(world: World) -> None:
    world.dns.records["fat.test TXT"] = [
        " ".join([f'"{letter * 250}"'] * 100) for letter in "ab"
    ] + ['"v=1"']
    world.dns.faults["fat.test"] = "truncate"
    lookup = resolver(world.dns, timeout_seconds=5, lifetime_seconds=10)
    texts = await lookup.texts("fat.test")
    assert "v=1" in texts
    assert sum(map(len, texts)) <= MAX_TEXT_OCTETS


@pytest.mark.parametrize(
    "name",
    ["a\\.b.odd.test", "\\000\\013\\010.odd.test", "\\195\\188.odd.test", "*.odd.test",
     "-.odd.test", "x\\>\\ y.odd.test", "a" * 63 + ".odd.test",
     ".".join(["a" * 49] * 4) + ".odd.test", "127.0.0.2", "xn--.odd.test"],
)  # fmt: skip
async def test_a_mail_server_with_an_odd_name_is_no_crash(world: World, name: str) -> None:
    """Each name has an address at which a server with TLS answers, or has none."""
    sink = await world.sink(tls=world.tls)
    if name != "127.0.0.2":
        world.dns.host(name.lower(), "127.0.0.2")
    world.dns.mx("odd.test", f"10 {name}.")
    engine = world.engine()
    outcome = await engine.deliver(order("bob@odd.test"))
    assert outcome.kind in ("delivered", "bounced", "deferred")
    assert (outcome.kind == "delivered") == bool(sink.messages)
    if outcome.kind != "delivered":
        assert outcome.phase == "mx"
    assert (outcome.mx_host or "").isprintable()
    assert outcome.text.isprintable()
    await engine.close()
    await sink.until_closed()


async def test_our_own_address_among_others_is_passed_over(world: World) -> None:
    ours = await world.sink("127.0.0.2")
    theirs = await world.sink("127.0.0.3")
    world.domain("mixed.test", "127.0.0.2", "127.0.0.3")
    engine = world.engine(own_addresses=frozenset({"127.0.0.2"}))
    assert (await engine.deliver(order("bob@mixed.test"))).kind == "delivered"
    assert (ours.connections, theirs.connections) == (0, 1)


@pytest.mark.parametrize(
    ("ip", "expected"),
    [
        ("::127.0.0.1", False), ("::10.0.0.1", False), ("fec0::1", False), ("4000::1", False),
        ("64:ff9b::7f00:1", False), ("64:ff9b::a00:1", False), ("64:ff9b::5db8:d822", True),
        ("64:ff9b:1::5db8:d822", False), ("2001::1", False), ("3fff::1", False),
        ("5f00::1", False), ("2a00:1450:4001:80b::2003", True),
    ],
)  # fmt: skip
def test_addresses_in_disguise_are_not_public(ip: str, expected: bool) -> None:
    assert is_public(ipaddress.ip_address(ip)) is expected
