"""Which way a message takes, and that it never takes two."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest

from sending.engine.pool import PoolSettings
from sending.engine.ports import Demand, Lane, Order, Outcome, Permit, Refusal, Relay, Source, Way
from sending.engine.throttle import LaneLimits
from sending.engine.ways import ordered_ways
from tests.engine_sink.conftest import SOURCE, World, order
from tests.engine_sink.sink import Cut, Hang

GONE = Source("ip-x", "192.0.2.1", "gone.mailwright.test")  # not an address of this machine
OTHER = Source("ip-2", "127.0.0.8", "out2.mailwright.test")


@dataclass
class Scripted:
    """A throttle that refuses lanes by name and remembers what it was asked."""

    refusals: dict[str, Refusal] = field(default_factory=dict)
    asked: list[tuple[str, float]] = field(default_factory=list)
    demands: list[Demand] = field(default_factory=list)
    reported: list[Outcome] = field(default_factory=list)
    held: int = 0

    async def acquire(self, demand: Demand, *, wait_seconds: float) -> Permit | Refusal:
        self.asked.append((demand.lane.source_id, wait_seconds))
        self.demands.append(demand)
        refusal = self.refusals.get(demand.lane.source_id)
        if refusal is not None:
            return refusal
        self.held += 1
        return Permit(demand, 100)

    def release(self, permit: Permit) -> None:
        self.held -= 1

    def report(self, permit: Permit, outcome: Outcome) -> None:
        assert self.held > 0, "reported before the release"
        self.reported.append(outcome)


@dataclass
class Api:
    """A carrier that answers what the test says."""

    outcome: Outcome
    carried: list[bytes] = field(default_factory=list)

    async def carry(self, order: Order, data: bytes) -> Outcome:
        self.carried.append(data)
        return self.outcome


def api(kind: str = "delivered", phase: str = "body", **fields: object) -> Api:
    at = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    classification = "none/delivered" if kind == "delivered" else "soft/network-error"
    return Api(Outcome(kind, phase, classification, "as told", at, **fields))  # type: ignore[arg-type]


def test_ranks_come_before_weights_and_weights_are_kept() -> None:
    rng = random.Random(7)
    ways = [
        Way(SOURCE, "spare", rank=1, weight=100),
        Way(SOURCE, "one", weight=1),
        Way(SOURCE, "three", weight=3),
        Way(SOURCE, "never", weight=0),
    ]
    orders = [[way.route for way in ordered_ways(ways, rng)] for _ in range(4000)]
    first = Counter(names[0] for names in orders)
    assert first["three"] / 4000 == pytest.approx(0.75, abs=0.03)
    assert {names[2] for names in orders} == {"never"}
    assert {names[3] for names in orders} == {"spare"}


async def test_limits_are_asked_with_all_the_names_that_they_hang_on(world: World) -> None:
    await world.sink()
    throttle = Scripted()
    outcome = await world.engine(throttle=throttle).deliver(order())
    lane = Lane("ip-1", "mx1.plainmail.test")
    assert throttle.demands == [Demand(lane, "acme", "spring", "plainmail.test")]
    assert throttle.reported == [outcome]
    assert outcome.lane == lane
    assert throttle.held == 0


async def test_a_way_without_room_leads_to_the_next(world: World) -> None:
    sink = await world.sink()
    throttle = Scripted({"ip-1": Refusal("Suspended for an hour.", 3600, "suspended")})
    ways = [Way(SOURCE, rank=0), Way(OTHER, rank=1)]
    outcome = await world.engine(throttle=throttle).deliver(order(ways=ways))
    assert outcome.kind == "delivered"
    assert sink.messages[0].peer == "127.0.0.8"
    assert throttle.asked == [("ip-1", 0), ("ip-2", 0)]


async def test_a_message_that_no_way_has_room_for_is_held_and_not_made(world: World) -> None:
    sink = await world.sink()

    async def make() -> bytes:
        raise AssertionError("made in vain")

    throttle = Scripted({
        "ip-1": Refusal("Suspended for an hour.", 3600, "suspended"),
        "ip-2": Refusal("The cap of today is reached.", 600, "cap"),
    })  # fmt: skip
    ways = [Way(SOURCE), Way(OTHER)]
    outcome = await world.engine(throttle=throttle).deliver(order(ways=ways, make=make))
    assert (outcome.kind, outcome.phase, outcome.hold) == ("deferred", "throttle", "cap")
    assert (outcome.retry_after_seconds, outcome.text) == (600, "The cap of today is reached.")
    assert outcome.lane == Lane("ip-2", "mx1.plainmail.test")
    assert sink.connections == 0
    assert len(throttle.asked) == 2  # nobody waited


async def test_it_waits_once_where_room_comes_soon(world: World) -> None:
    await world.sink()
    throttle = Scripted({
        "ip-1": Refusal("Suspended.", 3600, "suspended"),
        "ip-2": Refusal("All are busy.", 1, "connections"),
    })  # fmt: skip
    deliverer = world.engine(throttle=throttle, pool=PoolSettings(wait_seconds=2.5))
    outcome = await deliverer.deliver(order(ways=[Way(SOURCE), Way(OTHER)]))
    assert (outcome.phase, outcome.hold) == ("throttle", "connections")
    assert throttle.asked[2:] == [("ip-2", 2.5)]


async def test_a_message_without_any_way_is_held_with_a_reason(world: World) -> None:
    await world.sink()
    outcome = await world.engine().deliver(replace(order(), ways=()))
    assert (outcome.phase, outcome.hold) == ("throttle", "route")


async def test_content_that_cannot_be_made_bounces_and_keeps_the_connection(world: World) -> None:
    sink = await world.sink()

    async def make() -> bytes:
        raise ZeroDivisionError("division by zero in the template")

    throttle = Scripted()
    deliverer = world.engine(throttle=throttle)
    outcome = await deliverer.deliver(order(make=make))
    assert (outcome.kind, outcome.phase) == ("bounced", "render")
    assert outcome.classification == "block/content"
    assert "division by zero" in outcome.text
    assert throttle.held == 0
    assert (await deliverer.deliver(order())).kind == "delivered"
    assert sink.connections == 1


async def test_a_source_address_that_is_gone_leads_to_the_next_way(world: World) -> None:
    sink = await world.sink()
    made: list[int] = []

    async def make() -> bytes:
        made.append(1)
        return b"Subject: x\r\n\r\nx\r\n"

    ways = [Way(GONE, rank=0), Way(SOURCE, rank=1)]
    outcome = await world.engine().deliver(order(ways=ways, make=make))
    assert outcome.kind == "delivered"
    assert (len(made), len(sink.messages)) == (1, 1)


@pytest.mark.parametrize("verb", ["CONNECT", "EHLO"])
async def test_a_relay_that_is_not_to_be_had_leads_to_the_next_way(world: World, verb: str) -> None:
    good = await world.sink()
    await world.sink("127.0.0.3", script={verb: Cut()})
    bad = Relay("127.0.0.3", world.port, tls="never", allow_private=True)
    ways = [Way(SOURCE, "house", relay=bad), Way(SOURCE, rank=1)]
    outcome = await world.engine().deliver(order(ways=ways))
    assert (outcome.kind, outcome.route) == ("delivered", "")
    assert len(good.messages) == 1


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "BODY"])
@pytest.mark.parametrize("trouble", ["451 4.3.0 later", "550 5.7.1 no", Cut(), Hang()])
async def test_once_a_relay_has_heard_of_the_message_no_other_way_is_tried(
    world: World, verb: str, trouble: object
) -> None:
    other = await world.sink()
    await world.sink("127.0.0.3", script={verb: trouble})
    first = Relay("127.0.0.3", world.port, tls="never", allow_private=True)
    ways = [Way(SOURCE, "house", relay=first), Way(SOURCE, rank=1)]
    outcome = await world.engine().deliver(order(ways=ways))
    assert outcome.kind in ("deferred", "bounced")
    assert outcome.route == "house"
    assert other.connections == 0


async def test_a_dead_mail_server_is_not_tried_from_every_source(world: World) -> None:
    sink = await world.sink(script={"CONNECT": "421 4.3.2 busy"})
    outcome = await world.engine().deliver(order(ways=[Way(SOURCE), Way(OTHER, rank=1)]))
    assert (outcome.kind, outcome.phase) == ("deferred", "greeting")
    assert sink.connections == 1


async def test_a_carrier_gets_the_bytes_under_the_same_limits(world: World) -> None:
    one, throttle = api(), Scripted()
    deliverer = world.engine(throttle=throttle)
    way = Way(SOURCE, "ses", carrier=one)
    outcome = await deliverer.deliver(order(ways=[way], data=b"x\r\n", domain="nowhere.test"))
    assert (outcome.kind, outcome.route, outcome.lane) == (
        "delivered", "ses", Lane("ip-1", "route:ses"),
    )  # fmt: skip
    assert one.carried == [b"x\r\n"]
    assert throttle.reported == [outcome]


async def test_a_carrier_that_was_not_reached_leads_to_the_next_way(world: World) -> None:
    sink = await world.sink()
    ways = [Way(SOURCE, "ses", carrier=api("deferred", "connect")), Way(SOURCE, rank=1)]
    assert (await world.engine().deliver(order(ways=ways))).kind == "delivered"
    assert len(sink.messages) == 1


@pytest.mark.parametrize(
    "one", [api("deferred", "body"), api("deferred", "connect", is_ambiguous=True)]
)
async def test_a_carrier_that_may_have_taken_it_is_the_last_way(world: World, one: Api) -> None:
    sink = await world.sink()
    ways = [Way(SOURCE, "ses", carrier=one), Way(SOURCE, rank=1)]
    outcome = await world.engine().deliver(order(ways=ways))
    assert (outcome.kind, outcome.route) == ("deferred", "ses")
    assert sink.connections == 0


async def test_a_retry_hint_in_the_reply_is_read(world: World) -> None:
    await world.sink(script={"RCPT": "451 4.7.1 Greylisted, try again in 300 seconds"})
    outcome = await world.engine().deliver(order())
    assert (outcome.kind, outcome.retry_after_seconds) == ("deferred", 300)


async def test_it_knows_when_the_content_is_on_its_way(world: World) -> None:
    sink = await world.sink(script={"RCPT": ["250 ok", Hang()], "BODY": Hang()})
    deliverer = world.engine(limits=LaneLimits(connections=9))
    leaving, waiting = order(), order()
    first = asyncio.create_task(deliverer.deliver(leaving))
    while not sink.counts["DATA"]:
        await asyncio.sleep(0.005)
    second = asyncio.create_task(deliverer.deliver(waiting))
    while sink.counts["RCPT"] < 2:
        await asyncio.sleep(0.005)
    assert (deliverer.is_leaving(leaving), deliverer.is_leaving(waiting)) == (True, False)
    await asyncio.gather(first, second)
    assert not deliverer.is_leaving(leaving)
