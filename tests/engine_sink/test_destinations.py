"""Where mail goes by each way: found once a second, and never older than that."""

from __future__ import annotations

import datetime as dt

from esp.lib.clock import ManualClock
from sending.engine.destinations import Destinations
from sending.engine.ports import AddressAnswer, Lane, MxAnswer, MxHost, Relay, Source, Way

START = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
SOURCE = Source("ip-1", "127.0.0.1", "out.example.test")


class Records:
    """A resolver that answers from a table and counts the questions."""

    def __init__(self) -> None:
        self.hosts: dict[str, tuple[MxHost, ...]] = {}
        self.asked: list[str] = []

    async def mx(self, domain: str) -> MxAnswer:
        self.asked.append(domain)
        hosts = self.hosts.get(domain)
        if hosts is None:
            return MxAnswer(domain, kind="deferred", classification="soft/network-error")
        return MxAnswer(domain, hosts)

    async def addresses(self, host: str, *, version: int) -> AddressAnswer:
        return AddressAnswer(host)

    async def close(self) -> None:
        pass


async def test_a_domain_is_looked_up_once_a_second() -> None:
    records, clock = Records(), ManualClock(START)
    records.hosts["acme.test"] = (MxHost("mx1.acme.test", 10),)
    destinations = Destinations(records, site_for=None, clock=clock)
    assert destinations.known("acme.test") is None
    found = await destinations.find("acme.test")
    assert destinations.known("acme.test") is found
    assert found.site == "mx1.acme.test"
    clock.advance(1.01)
    assert destinations.known("acme.test") is None
    records.hosts["acme.test"] = (MxHost("mx2.acme.test", 10),)
    assert (await destinations.find("acme.test")).site == "mx2.acme.test"
    assert records.asked == ["acme.test", "acme.test"]


async def test_what_cannot_be_looked_up_is_asked_for_again() -> None:
    records = Records()
    destinations = Destinations(records, site_for=None, clock=ManualClock(START))
    assert (await destinations.find("dark.test")).answer is not None
    assert destinations.known("dark.test") is None


async def test_trails_of_a_destination_are_by_way_demand_and_policy() -> None:
    records = Records()
    records.hosts["acme.test"] = (MxHost("mx1.acme.test", 10),)
    destinations = Destinations(records, site_for=lambda answer: "acme", clock=ManualClock(START))
    there = await destinations.find("acme.test")
    direct, relayed = Way(SOURCE), Way(SOURCE, "smart", Relay("relay.test", 587))
    assert there.trail(direct).lane == Lane("ip-1", "acme")
    assert there.trail(relayed).lane == Lane("ip-1", "route:smart")
    assert there.trail(direct) is there.trail(direct)
    keys = [
        there.trail(direct).key("opportunistic", ""),
        there.trail(direct).key("required", ""),
        there.trail(direct).key("required", "acme.test"),
        there.trail(relayed).key("required", ""),
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == ("ip-1", "acme", "", "mx1.acme.test", "opportunistic", "")


async def test_two_ways_made_alike_keep_trails_of_their_own() -> None:
    records = Records()
    records.hosts["acme.test"] = (MxHost("mx1.acme.test", 10),)
    there = await Destinations(records, site_for=None, clock=ManualClock(START)).find("acme.test")
    first, second = there.trail(Way(SOURCE)), there.trail(Way(SOURCE))
    # Neither way has a name outside: a trail holds on to its own, so no identity is used twice.
    assert first is not second
    assert first.key("opportunistic", "") == second.key("opportunistic", "")


async def test_trails_of_ways_made_for_each_message_do_not_pile_up() -> None:
    there = Destinations(Records(), site_for=None, clock=ManualClock(START)).by_routes
    for number in range(1000):
        way = Way(SOURCE, f"smart-{number}", Relay("relay.test", 587))
        assert there.trail(way).lane == Lane("ip-1", f"route:smart-{number}")
    assert len(there._trails) <= 64
