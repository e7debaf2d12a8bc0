"""Which ways a message gets: strategies, rules, defaults, rests, and what is kept."""

from __future__ import annotations

import datetime as dt
import json
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from sending.engine.ports import Relay, Source, Way
from sending.engine.ways import ordered_ways
from sending.routes.models import (
    DefaultRoute,
    Route,
    RouteRule,
    RouteSet,
    RouteSetMember,
    RouteStat,
)
from sending.routes.performance import FLOOR, FULL, weights
from sending.routes.plans import Member, Plan, Resting
from sending.routes.selectors import forget_routes, ways_for
from sending.routes.types import Totals
from tenants.scoping.context import scope
from tests.cast import Cast

NOW = dt.datetime(2026, 11, 22, 5, 0, tzinfo=dt.UTC)
DIRECT = (
    Way(Source("a", "127.0.0.5", "out1.example"), rank=0, weight=3),
    Way(Source("b", "127.0.0.6", "out2.example"), rank=0, weight=1),
    Way(Source("c", "127.0.0.7", "out3.example"), rank=1, weight=1),
)


def relay(name: str, **fields: Any) -> Member:
    return Member(name, relay=Relay(f"{name.lower()}.example", 587), **fields)


def names(ways: tuple[Way, ...]) -> list[str]:
    return [way.route or way.source.id for way in ways]


def plan(strategy: str, *members: Member) -> Plan:
    return Plan(strategy, members)


def ways(found: Plan, *, only: str | None = None) -> tuple[Way, ...]:
    return found.ways(DIRECT, only=only, now=NOW)


def test_failover_is_in_order_and_keeps_the_pools_own_order() -> None:
    found = ways(plan("failover", relay("One"), Member("Direct"), relay("Two")))
    assert names(found) == ["One", "a", "b", "c", "Two"]
    ranks = [way.rank for way in found]
    assert ranks == sorted(ranks)
    assert ranks[1] == ranks[2] < ranks[3] < ranks[4]
    assert (found[1].weight, found[2].weight) == (75, 25)


def test_weights_share_the_mail() -> None:
    found = ways(plan("weighted", relay("One", weight=3), relay("Two", weight=1),
                      relay("Spare", weight=0)))  # fmt: skip
    rng = random.Random(7)
    first = Counter(ordered_ways(found, rng)[0].route for _ in range(4000))
    assert first["One"] / 4000 == pytest.approx(0.75, abs=0.03)
    assert first["Spare"] == 0
    assert ordered_ways(found, rng)[-1].route == "Spare"


def test_direct_delivery_has_one_share_whatever_the_number_of_sources() -> None:
    found = ways(plan("weighted", relay("One", weight=1), Member("Direct", weight=1)))
    rng = random.Random(7)
    first = Counter(ordered_ways(found, rng)[0].route for _ in range(4000))
    assert first[""] / 4000 == pytest.approx(0.5, abs=0.03)


def test_in_turn_means_each_comes_first_equally_often() -> None:
    found = plan("round_robin", relay("One"), relay("Two"), relay("Three"))
    seen = Counter(names(ways(found))[0] for _ in range(30))
    assert seen == {"One": 10, "Two": 10, "Three": 10}
    assert sorted(names(ways(found))) == ["One", "Three", "Two"]


def test_a_resting_route_is_left_out() -> None:
    resting = relay("One", rests_until=NOW + dt.timedelta(seconds=1))
    rested = relay("Three", rests_until=NOW)
    assert names(ways(plan("failover", resting, relay("Two"), rested))) == ["Two", "Three"]


def test_where_all_rest_the_one_that_ends_first_holds() -> None:
    later = relay("One", rests_until=NOW + dt.timedelta(seconds=90))
    sooner = relay("Two", rests_until=NOW + dt.timedelta(seconds=30))
    (way,) = ways(plan("failover", later, sooner))
    assert isinstance(way.carrier, Resting)
    assert way.route == "Two"


def test_a_second_try_after_doubt_stays_with_its_route() -> None:
    resting = relay("One", rests_until=NOW + dt.timedelta(seconds=90))
    found = plan("failover", resting, Member("Direct"), relay("Two"))
    assert names(ways(found, only="Two")) == ["Two"]
    assert names(ways(found, only="")) == ["a", "b", "c"]
    (held,) = ways(found, only="One")
    assert isinstance(held.carrier, Resting), "it waits for its route rather than take another"
    assert names(ways(found, only="Gone")) == ["a", "b", "c", "Two"]


def test_a_relay_is_reached_from_any_address_unless_it_is_bound() -> None:
    free, bound = ways(plan("failover", relay("One", ehlo_name="mail.example"),
                            relay("Two", is_bound=True)))  # fmt: skip
    assert free.source == Source("", "", "mail.example")
    assert bound.source == DIRECT[0].source


# --- performance ---


def test_the_better_route_gets_more() -> None:
    found = weights({
        "good": Totals(delivered=990, bounced=10, seconds=500),
        "slow": Totals(delivered=990, bounced=10, seconds=8000),
        "lossy": Totals(delivered=500, deferred=500, seconds=500),
        "dead": Totals(deferred=1000, seconds=30_000),
    })  # fmt: skip
    assert found["good"] == FULL
    assert found["good"] > found["slow"] > found["dead"]
    assert found["good"] > found["lossy"] > found["dead"]
    assert found["dead"] == FLOOR, "it keeps a small share, to be seen when it gets well"


def test_one_attempt_decides_nothing() -> None:
    found = weights({"a": Totals(), "b": Totals(deferred=1, seconds=0.5)})
    assert found["b"] > FULL // 4
    assert weights({"a": Totals(), "b": Totals()}) == {"a": FULL, "b": FULL}
    assert weights({}) == {}


# --- from the database ---


def make_route(name: str, **fields: Any) -> Route:
    options = {"host": f"{name.lower()}.example", "port": 587, "tls": "starttls", "verify": True,
               "auth": "plain", "username": "u"}  # fmt: skip
    stored = {"kind": "smarthost", "options": options, "secrets": json.dumps({"secret": "pw"})}
    return Route.objects.create(name=name, **(stored | fields))


def make_set(name: str, *routes: Route, strategy: str = "failover") -> RouteSet:
    found = RouteSet.objects.create(name=name, strategy=strategy)
    for number, route in enumerate(routes):
        RouteSetMember.objects.create(route_set=found, route=route, position=number)
    return found


def test_without_rules_mail_leaves_directly(cast: Cast) -> None:
    assert ways_for(cast.acme.pk, "broadcast", DIRECT) == DIRECT
    bare = ways_for(cast.acme.pk, "broadcast", [DIRECT[0].source])
    assert bare == (Way(DIRECT[0].source),)


def test_a_tenants_rule_beats_the_default_and_the_stream_beats_any(cast: Cast) -> None:
    def found(tenant: Any = None, stream: str = "broadcast") -> list[str]:
        forget_routes()
        return names(ways_for((tenant or cast.acme).pk, stream, DIRECT))

    sets = {name: make_set(name, make_route(name)) for name in ("One", "Two", "Three", "Four")}
    DefaultRoute.objects.create(stream="any", route_set=sets["One"])
    assert found() == found(stream="transactional") == ["One"]
    DefaultRoute.objects.create(stream="broadcast", route_set=sets["Two"])
    assert found() == ["Two"]
    assert found(stream="transactional") == ["One"]
    with scope(cast.acme.pk):
        RouteRule.objects.create(tenant=cast.acme, stream="any", route_set=sets["Three"])
        assert found() == ["Three"]
        RouteRule.objects.create(tenant=cast.acme, stream="broadcast", route_set=sets["Four"])
    assert found() == ["Four"]
    assert found(cast.globex) == ["Two"], "another tenant's rule is nobody else's"


def test_what_is_kept_is_there_without_the_database(cast: Cast) -> None:
    DefaultRoute.objects.create(stream="any", route_set=make_set("Main", make_route("One")))
    assert ways_for(cast.acme.pk, "broadcast", DIRECT, load=False) is None
    loaded = ways_for(cast.acme.pk, "broadcast", DIRECT)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert ways_for(cast.acme.pk, "broadcast", DIRECT, load=False) == loaded
    assert len(queries) == 0


def test_routes_that_are_off_or_broken_are_not_used(cast: Cast) -> None:
    off, broken = make_route("Off", status="off"), make_route("Broken", options={})
    good = make_route("Good")
    DefaultRoute.objects.create(stream="any", route_set=make_set("Main", off, broken, good))
    assert names(ways_for(cast.acme.pk, "broadcast", DIRECT)) == ["Good"]
    Route.objects.filter(pk=good.pk).update(status="off")
    forget_routes()
    (held,) = ways_for(cast.acme.pk, "broadcast", DIRECT)
    assert isinstance(held.carrier, Resting), "mail for a smarthost must not leave directly"


def test_turns_go_on_when_the_set_is_read_again(cast: Cast) -> None:
    routes = [make_route(name) for name in ("One", "Two")]
    DefaultRoute.objects.create(
        stream="any", route_set=make_set("Main", *routes, strategy="round_robin")
    )
    first = [names(ways_for(cast.acme.pk, "broadcast", DIRECT))[0] for _ in range(3)]
    assert first == ["One", "Two", "One"]


def test_performance_reads_the_last_minutes(cast: Cast) -> None:
    good, bad = make_route("Good"), make_route("Bad")
    DefaultRoute.objects.create(
        stream="any", route_set=make_set("Main", good, bad, strategy="performance")
    )
    now = timezone.now().replace(second=0, microsecond=0)
    RouteStat.objects.create(route=good, minute=now, delivered=100, seconds=30)
    RouteStat.objects.create(route=bad, minute=now, delivered=20, deferred=80, seconds=30)
    hour = dt.timedelta(hours=1)
    RouteStat.objects.create(route=bad, minute=now - hour, delivered=9999, seconds=30)
    found = {way.route: way.weight for way in ways_for(cast.acme.pk, "broadcast", DIRECT)}
    assert found["Good"] > 5 * found["Bad"] > 0


def test_a_way_never_shows_its_secret(cast: Cast) -> None:
    DefaultRoute.objects.create(stream="any", route_set=make_set("Main", make_route("One")))
    (way,) = ways_for(cast.acme.pk, "broadcast", DIRECT)
    assert way.relay is not None
    assert way.relay.secret == "pw"
    assert "pw" not in repr(way)
    assert replace(way.relay, secret="x") != way.relay
