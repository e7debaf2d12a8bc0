"""Connections kept, counted, limited and given up; other MX hosts tried."""

from __future__ import annotations

import asyncio
import socket

import pytest

from sending.engine.pool import PoolSettings
from sending.engine.ports import Demand, Lane, Outcome, Permit, Refusal, Source
from sending.engine.smtp.connector import ConnectorSettings
from sending.engine.smtp.session import Timeouts
from sending.engine.throttle import LaneLimits, LocalThrottle
from tests.engine_sink.conftest import QUICK, World, order
from tests.engine_sink.dns_sink import DnsSink
from tests.engine_sink.sink import Cut, Hang


async def test_one_connection_carries_many_messages(world: World) -> None:
    sink = await world.sink()
    deliverer = world.engine()
    for _ in range(5):
        assert (await deliverer.deliver(order())).kind == "delivered"
    assert sink.connections == 1
    assert sink.counts["EHLO"] == 1
    assert sink.counts["RSET"] == 0
    await deliverer.close()
    await sink.until_closed()


async def test_domains_with_the_same_mail_servers_share_a_connection(world: World) -> None:
    sink = await world.sink()
    world.dns.mx("acme.test", "5 mx1.plainmail.test.")
    deliverer = world.engine()
    await deliverer.deliver(order())
    await deliverer.deliver(order("alice@acme.test"))
    assert sink.connections == 1


async def test_two_sources_never_share_a_connection(world: World) -> None:
    sink = await world.sink()
    deliverer = world.engine()
    await deliverer.deliver(order())
    await deliverer.deliver(order(source=Source("ip-2", "127.0.0.8", "out2.mailwright.test")))
    assert [message.peer for message in sink.messages] == ["127.0.0.1", "127.0.0.8"]


async def test_a_connection_ends_after_its_share_of_messages(world: World) -> None:
    sink = await world.sink()
    deliverer = world.engine(limits=LaneLimits(messages_per_connection=2))
    for _ in range(5):
        await deliverer.deliver(order())
    assert sink.connections == 3
    assert sink.counts["QUIT"] == 2


async def test_a_lane_never_has_more_connections_than_allowed(world: World) -> None:
    sink = await world.sink()
    deliverer = world.engine(limits=LaneLimits(connections=3, messages_per_connection=4))
    outcomes = await asyncio.gather(*(deliverer.deliver(order()) for _ in range(40)))
    assert {outcome.kind for outcome in outcomes} == {"delivered"}
    assert sink.most_open <= 3
    assert len(sink.messages) == 40


async def test_a_full_lane_says_so_and_nothing_is_tried(world: World) -> None:
    sink = await world.sink(script={"BODY": Hang()})
    deliverer = world.engine(limits=LaneLimits(connections=1), pool=PoolSettings(wait_seconds=0.05))
    first = asyncio.create_task(deliverer.deliver(order()))
    await asyncio.sleep(0.05)
    second = await deliverer.deliver(order())
    assert (second.kind, second.phase) == ("deferred", "throttle")
    assert "connections to this receiver are busy" in second.text
    await first
    assert sink.connections == 1


async def test_an_idle_connection_says_goodbye(world: World) -> None:
    sink = await world.sink()
    deliverer = world.engine(pool=PoolSettings(idle_seconds=0.1))
    await deliverer.deliver(order())
    assert deliverer.idle_sessions == 1
    await sink.until_closed()
    assert deliverer.idle_sessions == 0
    assert sink.counts["QUIT"] == 1


async def test_idle_connections_are_bounded(world: World) -> None:
    for number in range(3, 8):
        world.domain(f"d{number}.test", f"127.0.0.{number}")
        await world.sink(f"127.0.0.{number}")
    deliverer = world.engine(pool=PoolSettings(max_idle=2))
    for number in range(3, 8):
        await deliverer.deliver(order(f"bob@d{number}.test"))
    assert deliverer.idle_sessions == 2


async def test_a_kept_connection_that_died_costs_nothing(world: World) -> None:
    sink = await world.sink(script={"MAIL": ["250 ok", Cut()]})
    deliverer = world.engine()
    await deliverer.deliver(order())
    outcome = await deliverer.deliver(order())
    assert outcome.kind == "delivered"
    assert sink.connections == 2


async def test_421_on_a_kept_connection_gets_a_fresh_one(world: World) -> None:
    sink = await world.sink(script={"MAIL": ["250 ok", "421 4.7.0 Enough on this connection"]})
    deliverer = world.engine()
    await deliverer.deliver(order())
    assert (await deliverer.deliver(order())).kind == "delivered"
    assert sink.connections == 2


async def test_421_on_a_fresh_connection_defers(world: World) -> None:
    sink = await world.sink(script={"MAIL": "421 4.7.0 Too many messages, slow down"})
    outcome = await world.engine().deliver(order())
    assert (outcome.kind, outcome.classification) == ("deferred", "soft/throttled")
    assert sink.connections == 1


async def test_a_cut_after_the_dot_is_never_tried_twice_at_once(world: World) -> None:
    sink = await world.sink(script={"BODY": ["250 ok", Cut()]})
    deliverer = world.engine()
    await deliverer.deliver(order())
    outcome = await deliverer.deliver(order())
    assert outcome.kind == "deferred"
    assert outcome.is_ambiguous
    assert sink.counts["DATA"] == 2


async def test_a_dead_host_leads_to_the_next(world: World) -> None:
    world.domain("two.test", "127.0.0.3", "127.0.0.2")
    await world.sink()
    deliverer = world.engine()
    outcome = await deliverer.deliver(order("bob@two.test"))
    assert (outcome.kind, outcome.mx_host) == ("delivered", "mx2.two.test")


@pytest.mark.parametrize("greeting", ["421 4.3.2 busy", "554 5.7.1 go away", Cut(), Hang()])
async def test_a_host_that_refuses_the_session_leads_to_the_next(
    world: World, greeting: object
) -> None:
    world.domain("two.test", "127.0.0.3", "127.0.0.2")
    await world.sink()
    await world.sink("127.0.0.3", script={"CONNECT": greeting})
    outcome = await world.engine().deliver(order("bob@two.test"))
    assert (outcome.kind, outcome.mx_host) == ("delivered", "mx2.two.test")


async def test_a_refused_recipient_does_not_lead_to_the_next(world: World) -> None:
    world.domain("two.test", "127.0.0.3", "127.0.0.2")
    second = await world.sink()
    await world.sink("127.0.0.3", script={"RCPT": "550 5.1.1 unknown"})
    outcome = await world.engine().deliver(order("bob@two.test"))
    assert outcome.kind == "bounced"
    assert second.connections == 0


async def test_the_words_of_a_server_count_more_than_a_dead_host(world: World) -> None:
    world.domain("two.test", "127.0.0.2", "127.0.0.3")
    await world.sink(script={"CONNECT": "554 5.7.1 You are on our black list"})
    outcome = await world.engine().deliver(order("bob@two.test"))
    assert (outcome.kind, outcome.classification) == ("deferred", "block/reputation")


async def test_a_dead_host_rests_before_it_is_tried_again(world: World) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.2", 0))  # bound but not listening: every connection is refused
        world.port = reserved.getsockname()[1]
        deliverer = world.engine(connector=ConnectorSettings(unreachable_seconds=0.3))
        first = await deliverer.deliver(order())
    assert (first.kind, first.phase) == ("deferred", "connect")
    sink = await world.sink()
    resting = await deliverer.deliver(order())
    assert (resting.kind, resting.text) == ("deferred", first.text)
    assert resting.at > first.at
    assert sink.connections == 0
    await asyncio.sleep(0.35)
    assert (await deliverer.deliver(order())).kind == "delivered"


async def test_connections_tried_for_one_message_are_bounded(world: World) -> None:
    sink = await world.sink(script={"CONNECT": "421 busy"})
    for number in range(5):
        world.dns.host(f"mx{number}.many.test", "127.0.0.2")
    world.dns.mx("many.test", *[f"{n} mx{n}.many.test." for n in range(5)])
    deliverer = world.engine(connector=ConnectorSettings(max_tries=3))
    outcome = await deliverer.deliver(order("bob@many.test"))
    assert outcome.kind == "deferred"
    assert sink.connections == 3


async def test_a_cancelled_delivery_leaves_no_connection_and_no_permit(world: World) -> None:
    sink = await world.sink(script={"BODY": [Hang()]})
    deliverer = world.engine(limits=LaneLimits(connections=1), timeouts=Timeouts(body=60, quit=0.2))
    task = asyncio.create_task(deliverer.deliver(order()))
    while not sink.counts["DATA"]:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await sink.until_closed()
    assert (await deliverer.deliver(order())).kind == "delivered"


def test_connections_live_across_slices_of_one_loop(server_tls: object) -> None:
    loop = asyncio.new_event_loop()
    try:
        dns_sink = DnsSink()
        loop.run_until_complete(dns_sink.start())
        world = World(dns_sink, server_tls)  # type: ignore[arg-type]
        world.domain("plainmail.test", "127.0.0.2")
        sink = loop.run_until_complete(world.sink())
        deliverer = world.engine()
        for _ in range(3):
            outcome = loop.run_until_complete(deliverer.deliver(order()))
            assert outcome.kind == "delivered"
        assert sink.connections == 1
        loop.run_until_complete(deliverer.close())
        loop.run_until_complete(sink.until_closed())
        loop.run_until_complete(sink.stop())
        loop.run_until_complete(dns_sink.stop())
    finally:
        loop.close()


async def test_a_site_can_be_rolled_up_without_mixing_connections(world: World) -> None:
    lanes: list[Lane] = []

    class Recording(LocalThrottle):
        async def acquire(self, demand: Demand, *, wait_seconds: float) -> Permit | Refusal:
            lanes.append(demand.lane)
            return await super().acquire(demand, wait_seconds=wait_seconds)

    sink = await world.sink()
    deliverer = world.engine(site="bigmail")
    deliverer._throttle = Recording(LaneLimits(), clock=deliverer._clock)
    await deliverer.deliver(order())
    assert lanes == [Lane("ip-1", "bigmail")]
    assert len(sink.messages) == 1


async def test_waiting_connections_count_in_a_lane_of_many_mx_sets(world: World) -> None:
    sink = await world.sink()
    world.domain("other.test", "127.0.0.2")
    deliverer = world.engine(limits=LaneLimits(connections=1), site="bigmail")
    for name in ("bob@plainmail.test", "bob@other.test") * 2:
        assert (await deliverer.deliver(order(name))).kind == "delivered"
    assert (sink.connections, sink.most_open) == (4, 1)
    assert deliverer.idle_sessions == 1


async def test_a_lane_rests_when_its_receiver_says_slow_down(world: World) -> None:
    await world.sink(script={"RCPT": ["451 4.7.1 Please try again slower"]})
    deliverer = world.engine(limits=LaneLimits(pause_seconds=0.2))
    loop = asyncio.get_running_loop()
    await deliverer.deliver(order())
    start = loop.time()
    outcome: Outcome = await deliverer.deliver(order())
    assert outcome.kind == "delivered"
    assert loop.time() - start >= 0.15


async def test_lanes_are_forgotten_when_nobody_uses_them(world: World) -> None:
    await world.sink()
    deliverer = world.engine(timeouts=QUICK)
    await deliverer.deliver(order())
    assert isinstance(deliverer._throttle, LocalThrottle)
    assert len(deliverer._throttle) == 0
