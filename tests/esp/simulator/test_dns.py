"""The name server answers as an authoritative one does: found, absent, refused, broken."""

from __future__ import annotations

import asyncio

import dns.asyncquery
import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import pytest

from esp.simulator.server import Simulator
from esp.simulator.zones import ZoneStore, make_record


async def ask(simulator: Simulator, name: str, type_: str, *, tcp: bool = False):
    port = int(simulator.addresses["dns"].rpartition(":")[2])
    query = dns.message.make_query(name, type_, use_edns=False)
    send = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    return await send(query, "127.0.0.1", port=port, timeout=1)


def values(response) -> list[str]:
    return sorted(rdata.to_text() for rrset in response.answer for rdata in rrset)


@pytest.mark.parametrize("tcp", [False, True])
async def test_it_answers_for_the_providers_over_udp_and_tcp(simulator: Simulator, tcp: bool):
    response = await ask(simulator, "bigmail.test", "MX", tcp=tcp)
    assert values(response) == ["10 mx2.bigmail.test.", "5 mx1.bigmail.test."]
    assert response.flags & dns.flags.AA
    assert values(await ask(simulator, "mx1.bigmail.test", "A", tcp=tcp)) == ["127.0.11.11"]
    assert values(await ask(simulator, "11.11.0.127.in-addr.arpa", "PTR", tcp=tcp)) == [
        "mx1.bigmail.test."
    ]


async def test_it_answers_for_the_hosts_of_the_product(simulator: Simulator):
    assert values(await ask(simulator, "mx.mailwright.test", "A")) == ["127.0.1.1"]
    assert values(await ask(simulator, "bounces.mailwright.test", "MX")) == [
        "10 mx.mailwright.test."
    ]
    assert values(await ask(simulator, "bounces.mailwright.test", "TXT")) == [
        '"v=spf1 ip4:127.0.2.0/24 -all"'
    ]
    assert values(await ask(simulator, "3.2.0.127.in-addr.arpa", "PTR")) == [
        "out3.mailwright.test."
    ]


async def test_it_tells_a_missing_name_from_a_missing_type(simulator: Simulator):
    absent = await ask(simulator, "nobody.bigmail.test", "A")
    assert absent.rcode() == dns.rcode.NXDOMAIN
    assert absent.authority
    empty = await ask(simulator, "bigmail.test", "AAAA")
    assert empty.rcode() == dns.rcode.NOERROR
    assert not empty.answer
    # A name between two that have records exists (RFC 8020).
    between = await ask(simulator, "11.0.127.in-addr.arpa", "A")
    assert between.rcode() == dns.rcode.NOERROR


async def test_it_knows_nothing_of_the_real_internet(simulator: Simulator):
    assert (await ask(simulator, "gmail.com", "MX")).rcode() == dns.rcode.REFUSED
    assert (await ask(simulator, "typo.example", "MX")).rcode() == dns.rcode.NXDOMAIN


async def test_it_rehearses_faults(simulator: Simulator):
    assert (await ask(simulator, "servfail.test", "MX")).rcode() == dns.rcode.SERVFAIL
    assert values(await ask(simulator, "nullmx.test", "MX")) == ["0 ."]
    nomx = await ask(simulator, "nomx.test", "MX")
    assert (nomx.rcode(), nomx.answer) == (dns.rcode.NOERROR, [])
    with pytest.raises(dns.exception.Timeout):
        await ask(simulator, "timeout.test", "MX")


async def test_published_records_appear_replace_each_other_and_go(simulator: Simulator):
    long_key = "v=DKIM1; k=rsa; p=" + "A" * 392
    simulator.zones.publish([make_record("k1._domainkey.acme.example", "TXT", long_key)])
    simulator.zones.publish(
        [make_record("mw1._domainkey.acme.example", "CNAME", "k1._domainkey.acme.example.")]
    )
    response = await ask(simulator, "mw1._domainkey.acme.example", "TXT", tcp=True)
    assert [rrset.rdtype.name for rrset in response.answer] == ["CNAME", "TXT"]
    strings = response.answer[1][0].strings
    assert [len(part) for part in strings] == [255, len(long_key) - 255]
    assert b"".join(strings).decode() == long_key
    simulator.zones.publish([make_record("k1._domainkey.acme.example", "TXT", "v=DKIM1; p=")])
    assert values(await ask(simulator, "k1._domainkey.acme.example", "TXT")) == ['"v=DKIM1; p="']
    assert simulator.zones.delete("acme.example") == 2
    gone = await ask(simulator, "k1._domainkey.acme.example", "TXT")
    assert gone.rcode() == dns.rcode.NXDOMAIN


async def test_an_answer_too_long_for_a_datagram_is_cut_and_whole_over_tcp(simulator: Simulator):
    simulator.zones.publish(
        [make_record("long.acme.example", "TXT", f"{number} " + "x" * 200) for number in range(5)]
    )
    cut = await ask(simulator, "long.acme.example", "TXT")
    assert cut.flags & dns.flags.TC
    assert len(values(await ask(simulator, "long.acme.example", "TXT", tcp=True))) == 5


async def test_a_stub_resolver_works_with_it(simulator: Simulator):
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = ["127.0.0.1"]
    resolver.port = int(simulator.addresses["dns"].rpartition(":")[2])
    answer = await resolver.resolve("greymail.test", "MX")
    assert [rdata.exchange.to_text() for rdata in answer] == ["mx.greymail.test."]
    with pytest.raises(dns.resolver.NXDOMAIN):
        await resolver.resolve("nobody.greymail.test", "MX")


async def test_rubbish_is_not_answered_and_harms_nobody(simulator: Simulator):
    port = int(simulator.addresses["dns"].rpartition(":")[2])
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=("127.0.0.1", port)
    )
    for rubbish in (b"", b"\x00", b"\xff" * 600):
        transport.sendto(rubbish)
    transport.close()
    assert values(await ask(simulator, "mx.mailwright.test", "A")) == ["127.0.1.1"]


@pytest.mark.parametrize(
    ("type_", "value"),
    [("A", "999.1.1.1"), ("MX", "mail"), ("SOA", "a. b. 1 1 1 1 1"), ("NOPE", "x")],
)
def test_a_record_that_cannot_stand_in_a_zone_is_refused(type_: str, value: str):
    with pytest.raises(ValueError, match=r"(?i)record"):
        make_record("acme.example", type_, value)


def test_a_loop_of_aliases_ends():
    zones = ZoneStore()
    zones.publish(
        [
            make_record("a.acme.example", "CNAME", "b.acme.example."),
            make_record("b.acme.example", "CNAME", "a.acme.example."),
        ]
    )
    assert zones.lookup("a.acme.example", "A").records
