"""MX look-up against a real name server with every fault a domain can have."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import random

import pytest

from esp.lib.clock import ManualClock
from sending.engine.mx import MxResolver, MxSettings, equals_drawn, is_public
from tests.engine_sink.conftest import World, order
from tests.engine_sink.dns_sink import DnsSink

START = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)


def resolver(dns: DnsSink, clock: ManualClock | None = None, **settings: object) -> MxResolver:
    options = {"timeout_seconds": 0.2, "lifetime_seconds": 0.4, "allow_private": True} | settings
    return MxResolver(
        MxSettings(nameservers=("127.0.0.1",), port=dns.port, **options),  # type: ignore[arg-type]
        clock=clock or ManualClock(START),
        rng=random.Random(7),
    )


async def test_hosts_come_in_order_of_preference(world: World) -> None:
    world.dns.mx("acme.test", "20 b.acme.test.", "10 A.acme.test.", "30 c.acme.test.")
    answer = await resolver(world.dns).mx("acme.test")
    assert [host.name for host in answer.hosts] == ["a.acme.test", "b.acme.test", "c.acme.test"]
    assert answer.site == "a.acme.test,b.acme.test,c.acme.test"


async def test_equal_preferences_share_the_load(world: World) -> None:
    world.dns.mx("acme.test", "10 b.acme.test.", "20 c.acme.test.", "10 a.acme.test.")
    answer = await resolver(world.dns).mx("acme.test")
    rng = random.Random(7)
    drawn = {tuple(host.name for host in equals_drawn(answer.hosts, rng)) for _ in range(30)}
    a, b, c = (f"{letter}.acme.test" for letter in "abc")
    assert drawn == {(a, b, c), (b, a, c)}


async def test_a_domain_without_mx_is_its_own_mail_server(world: World) -> None:
    world.dns.host("bare.test", "127.0.0.2")
    world.dns.host("six.test", "::1")
    assert (await resolver(world.dns).mx("bare.test")).hosts[0].name == "bare.test"
    assert (await resolver(world.dns).mx("six.test")).hosts[0].name == "six.test"


async def test_null_mx_bounces(world: World) -> None:
    world.dns.mx("nomail.test", "0 .")
    answer = await resolver(world.dns).mx("nomail.test")
    assert (answer.kind, answer.classification) == ("bounced", "hard/invalid-domain")
    assert "RFC 7505" in answer.text


async def test_a_dot_among_other_hosts_is_ignored(world: World) -> None:
    world.dns.mx("odd.test", "0 .", "10 mx.odd.test.")
    assert [host.name for host in (await resolver(world.dns).mx("odd.test")).hosts] == [
        "mx.odd.test"
    ]


@pytest.mark.parametrize("domain", ["gone.test", "", "a..b", "[127.0.0.1]", "x" * 64 + ".test"])
async def test_a_domain_that_does_not_exist_bounces(world: World, domain: str) -> None:
    answer = await resolver(world.dns).mx(domain)
    assert (answer.kind, answer.classification) == ("bounced", "hard/invalid-domain")


async def test_a_domain_with_neither_mx_nor_address_bounces(world: World) -> None:
    world.dns.records["texts.test TXT"] = ['"hello"']
    answer = await resolver(world.dns).mx("texts.test")
    assert (answer.kind, answer.classification) == ("bounced", "hard/invalid-domain")


@pytest.mark.parametrize("fault", ["servfail", "drop"])
async def test_trouble_of_the_name_server_defers(world: World, fault: str) -> None:
    world.dns.faults["shaky.test"] = fault  # type: ignore[assignment]
    answer = await resolver(world.dns).mx("shaky.test")
    assert (answer.kind, answer.classification) == ("deferred", "soft/network-error")


async def test_a_truncated_answer_is_asked_for_again_over_tcp(world: World) -> None:
    world.dns.mx("big.test", *[f"10 mx{n}.big.test." for n in range(20)])
    world.dns.faults["big.test"] = "truncate"
    assert (await resolver(world.dns).mx("big.test")).hosts
    assert world.dns.over_tcp == 1


async def test_a_hundred_hosts_are_cut_to_a_few(world: World) -> None:
    world.dns.mx("many.test", *[f"{n} mx{n}.many.test." for n in range(100)])
    answer = await resolver(world.dns, max_hosts=5).mx("many.test")
    assert [host.preference for host in answer.hosts] == [0, 1, 2, 3, 4]


async def test_a_loop_of_cnames_ends(world: World) -> None:
    world.dns.records["ring.test CNAME"] = ["ring2.test."]
    world.dns.records["ring2.test CNAME"] = ["ring.test."]
    answer = await resolver(world.dns).mx("ring.test")
    assert answer.kind in ("deferred", "bounced")
    assert answer.hosts == ()


async def test_a_cname_is_followed(world: World) -> None:
    world.dns.records["alias.test CNAME"] = ["plainmail.test."]
    assert (await resolver(world.dns).mx("alias.test")).hosts[0].name == "mx1.plainmail.test"


async def test_answers_are_kept_for_their_time(world: World) -> None:
    clock = ManualClock(START)
    lookup = resolver(world.dns, clock)
    await lookup.mx("plainmail.test")
    await lookup.mx("plainmail.test")
    assert world.dns.questions["plainmail.test MX"] == 1
    clock.advance(61)
    await lookup.mx("plainmail.test")
    assert world.dns.questions["plainmail.test MX"] == 2


async def test_failures_are_forgotten_sooner_than_absence(world: World) -> None:
    clock = ManualClock(START)
    lookup = resolver(world.dns, clock)
    world.dns.faults["shaky.test"] = "servfail"
    await lookup.mx("shaky.test")
    await lookup.mx("gone.test")
    asked = world.dns.questions["shaky.test MX"]
    clock.advance(15)
    del world.dns.faults["shaky.test"]
    world.domain("shaky.test", "127.0.0.2")
    assert (await lookup.mx("shaky.test")).hosts
    await lookup.mx("gone.test")
    assert world.dns.questions["shaky.test MX"] == asked + 1
    assert world.dns.questions["gone.test MX"] == 1


async def test_the_cache_is_bounded(world: World) -> None:
    lookup = resolver(world.dns, cache_size=10)
    for number in range(30):
        await lookup.mx(f"gone{number}.test")
    assert len(lookup._cache) == 10


async def test_many_at_once_ask_once(world: World) -> None:
    lookup = resolver(world.dns)
    await asyncio.gather(*(lookup.mx("plainmail.test") for _ in range(50)))
    assert world.dns.questions["plainmail.test MX"] == 1


async def test_one_that_gives_up_does_not_take_the_answer_from_the_others(world: World) -> None:
    lookup = resolver(world.dns)
    first = asyncio.create_task(lookup.mx("plainmail.test"))
    second = asyncio.create_task(lookup.mx("plainmail.test"))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).hosts
    await lookup.close()


@pytest.mark.parametrize(
    ("ip", "expected"),
    [
        ("93.184.216.34", True), ("2606:2800:220:1::1", True),
        ("127.0.0.1", False), ("10.1.2.3", False), ("192.168.0.1", False), ("169.254.1.1", False),
        ("172.16.0.1", False), ("100.64.0.1", False), ("0.0.0.0", False), ("224.0.0.1", False),
        ("255.255.255.255", False), ("::1", False), ("fe80::1", False), ("fd00::1", False),
        ("::ffff:127.0.0.1", False), ("::ffff:10.0.0.1", False), ("2002:7f00:1::", False),
        ("ff02::1", False),
    ],
)  # fmt: skip
def test_only_public_unicast_addresses_count_as_public(ip: str, expected: bool) -> None:
    assert is_public(ipaddress.ip_address(ip)) is expected


async def test_mx_to_a_private_address_is_refused(world: World) -> None:
    sink = await world.sink()
    outcome = await world.engine(allow_private=False).deliver(order())
    assert (outcome.kind, outcome.phase) == ("bounced", "mx")
    assert outcome.classification == "hard/invalid-domain"
    assert "not a public address" in outcome.text
    assert sink.connections == 0


async def test_mx_to_ourselves_is_a_loop_and_suppresses_nobody(world: World) -> None:
    sink = await world.sink()
    deliverer = world.engine(own_addresses=frozenset({"127.0.0.2"}))
    outcome = await deliverer.deliver(order())
    assert (outcome.kind, outcome.classification) == ("bounced", "soft/network-error")
    assert sink.connections == 0


async def test_mx_hosts_that_do_not_exist_bounce(world: World) -> None:
    world.port = 1
    world.dns.mx("lost.test", "10 mx.gone.test.", "20 127.0.0.2.")
    outcome = await world.engine().deliver(order("bob@lost.test"))
    assert (outcome.kind, outcome.classification) == ("bounced", "hard/invalid-domain")


async def test_mx_hosts_without_an_address_of_our_kind_are_tried_later(world: World) -> None:
    world.port = 1
    world.dns.mx("six.test", "10 mx.six.test.")
    world.dns.host("mx.six.test", "::1")
    outcome = await world.engine().deliver(order("bob@six.test"))
    assert (outcome.kind, outcome.classification) == ("deferred", "soft/network-error")
    assert "IPv4" in outcome.text


async def test_one_host_that_cannot_be_looked_up_defers(world: World) -> None:
    world.port = 1
    world.dns.mx("half.test", "10 mx.gone.test.", "20 mx.shaky.test.")
    world.dns.faults["mx.shaky.test"] = "servfail"
    outcome = await world.engine().deliver(order("bob@half.test"))
    assert (outcome.kind, outcome.classification) == ("deferred", "soft/network-error")
