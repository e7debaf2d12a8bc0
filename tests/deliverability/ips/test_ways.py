"""Which addresses of which pools mail leaves from: rules, overflow, nodes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings

from deliverability.ips.models import DeliveryNode, IpPool
from deliverability.ips.nodes import beat
from deliverability.ips.selectors import forget_sources, node_after, ways_out, why_no_source
from deliverability.ips.ways import overflow_gaps, take_picture
from tests import make
from tests.cast import Cast

_FULL, _UNAVAILABLE = IpPool.Overflow.FULL, IpPool.Overflow.UNAVAILABLE


@pytest.fixture(autouse=True)
def on_node_a(settings: Settings) -> Iterator[None]:
    settings.DELIVERY_NODE = "a"
    forget_sources()
    yield
    forget_sources()


def ways(cast: Cast, stream: str = "broadcast", domain: Any = None) -> list[tuple[str, int]]:
    forget_sources()
    found = ways_out(cast.acme.pk, stream, domain and domain.pk)
    return sorted((way.source.address, way.rank) for way in found)


def why(cast: Cast, domain: Any = None) -> str:
    return why_no_source(cast.acme.pk, "broadcast", domain and domain.pk)


def die(node: str) -> None:
    long_ago = timezone.now() - dt.timedelta(minutes=5)
    DeliveryNode.objects.update_or_create(name=node, defaults={"seen_at": long_ago})


def own(pool: IpPool, cast: Cast, **fields: Any) -> IpPool:
    make.pool_rule(cast.acme, pool, **fields)
    return pool


def test_a_rule_for_the_domain_beats_one_for_the_stream(cast: Cast) -> None:
    shop, other = make.domain(cast.acme, "shop.example"), make.domain(cast.acme, "acme.example")
    make.ip_address(own(make.ip_pool(is_shared=False), cast), "127.0.9.1")
    make.ip_address(own(make.ip_pool(is_shared=False), cast, domain=shop), "127.0.9.2")
    assert ways(cast, domain=shop) == [("127.0.9.2", 0)]
    assert ways(cast, domain=other) == [("127.0.9.1", 0)]
    assert ways(cast) == [("127.0.9.1", 0)]


def test_weights_and_pools_come_along(cast: Cast) -> None:
    make.ip_address(make.ip_pool("Main"), "127.0.9.1", weight=3)
    (way,) = ways_out(cast.acme.pk, "broadcast", None)
    assert (way.weight, way.pool) == (3, "Main")


@pytest.mark.parametrize("status", ["quarantined", "draining", "off"])
def test_mail_moves_to_the_other_addresses_of_the_pool(cast: Cast, status: str) -> None:
    pool = make.ip_pool()
    make.ip_address(pool, "127.0.9.1", status=status, status_reason="Listed by a block list")
    other = make.ip_address(pool, "127.0.9.2")
    assert ways(cast) == [("127.0.9.2", 0)]
    assert why(cast) == ""
    other.status = "quarantined"
    other.save()
    assert ways(cast) == []
    assert pool.name in why(cast)
    assert "Listed by a block list" in why(cast)


@pytest.mark.parametrize(
    ("when", "up", "down"),
    [
        ("never", [("127.0.9.1", 0)], []),
        ("unavailable", [("127.0.9.1", 0)], [("127.0.9.2", 1)]),
        ("full", [("127.0.9.1", 0), ("127.0.9.2", 1)], [("127.0.9.2", 1)]),
    ],
)
def test_it_overflows_when_the_pool_says_so(
    cast: Cast, when: str, up: list[tuple[str, int]], down: list[tuple[str, int]]
) -> None:
    warm = make.ip_pool(is_shared=False)
    make.ip_address(warm, "127.0.9.2")
    pool = make.ip_pool(kind="hybrid", is_shared=False, overflow_pool=warm, overflow_when=when)
    row = make.ip_address(own(pool, cast), "127.0.9.1")
    assert ways(cast) == up
    row.status = "quarantined"
    row.save()
    assert ways(cast) == down
    assert bool(why(cast)) == (not down)


def test_overflow_goes_on_from_pool_to_pool_and_ends_in_a_circle(cast: Cast) -> None:
    last = make.ip_pool(is_shared=False)
    middle = make.ip_pool(is_shared=False, overflow_pool=last, overflow_when=_FULL)
    first = make.ip_pool(is_shared=False, overflow_pool=middle, overflow_when=_FULL)
    IpPool.objects.filter(pk=last.pk).update(overflow_pool=first, overflow_when=_FULL)
    for number, pool in enumerate((first, middle, last)):
        make.ip_address(pool, f"127.0.9.{number}")
    own(first, cast)
    assert ways(cast) == [("127.0.9.0", 0), ("127.0.9.1", 1), ("127.0.9.2", 2)]


def test_a_tenant_with_a_rule_never_falls_to_the_shared_pools(cast: Cast) -> None:
    make.ip_address(make.ip_pool(), "127.0.9.1")
    risky = own(make.ip_pool("Risky", kind="high_risk", is_shared=False), cast)
    assert ways(cast) == []
    assert why(cast) == "The pool Risky has no address."
    make.ip_address(risky, "127.0.9.2")
    assert ways(cast) == [("127.0.9.2", 0)]


def test_a_node_serves_its_own_addresses_and_nobodys(cast: Cast) -> None:
    pool = make.ip_pool()
    make.ip_address(pool, "127.0.9.1", node="a")
    make.ip_address(pool, "127.0.9.2", node="b")
    make.ip_address(pool, "127.0.9.3")
    beat("b")
    assert ways(cast) == [("127.0.9.1", 0), ("127.0.9.3", 0)]


def test_mail_of_a_live_node_is_left_to_it(cast: Cast) -> None:
    shared = make.ip_pool(is_shared=False)
    make.ip_address(shared, "127.0.9.2")
    pool = make.ip_pool(is_shared=False, overflow_pool=shared, overflow_when=_UNAVAILABLE)
    make.ip_address(own(pool, cast), "127.0.9.1", node="b")
    beat("b")
    assert ways(cast) == []
    assert why(cast) == ""


def test_mail_of_a_dead_node_moves_where_the_pool_overflows(cast: Cast) -> None:
    shared = make.ip_pool(is_shared=False)
    make.ip_address(shared, "127.0.9.2", node="a")
    pool = make.ip_pool(is_shared=False, overflow_pool=shared, overflow_when=_UNAVAILABLE)
    make.ip_address(own(pool, cast), "127.0.9.1", node="b")
    die("b")
    assert ways(cast) == [("127.0.9.2", 1)]
    beat("b")
    assert ways(cast) == []


def test_mail_of_a_dead_node_waits_otherwise_and_says_why(cast: Cast) -> None:
    pool = own(make.ip_pool("Own", is_shared=False), cast)
    make.ip_address(pool, "127.0.9.1", node="b")
    assert ways(cast) == []
    assert why(cast) == (
        "The node b, which has addresses of the pool Own, has never given a sign of life."
    )
    die("b")
    since = DeliveryNode.objects.get().seen_at
    assert ways(cast) == []
    assert f"has given no sign of life since {since:%Y-%m-%d %H:%M:%S} UTC" in why(cast)


def test_a_draining_node_takes_no_new_mail(cast: Cast) -> None:
    pool = make.ip_pool()
    make.ip_address(pool, "127.0.9.1", node="a")
    beat("a")
    DeliveryNode.objects.update(is_draining=True)
    assert ways(cast) == []
    assert "is draining" in why(cast)


def test_beating_twice_is_one_node(db: None) -> None:
    beat("a")
    die("a")
    beat("a")
    assert DeliveryNode.objects.get().seen_at > timezone.now() - dt.timedelta(seconds=10)


def test_operators_see_where_a_full_pool_cannot_overflow(operator: Client, cast: Cast) -> None:
    warm = make.ip_pool("Warm", is_shared=False)
    other = make.ip_address(warm, "127.0.9.9", node="c", status="off")
    pool = make.ip_pool("Acme", is_shared=False, overflow_pool=warm, overflow_when=_FULL)
    make.ip_address(pool, "127.0.9.1", node="a")
    gap = "When Acme is full, its mail waits: Warm has no active address."
    assert overflow_gaps(take_picture()) == [gap]
    assert gap in operator.get("/operator/ips/").content.decode()
    IpPool.objects.filter(pk=pool.pk).update(overflow_when=_UNAVAILABLE)
    assert overflow_gaps(take_picture()) == []
    IpPool.objects.filter(pk=pool.pk).update(overflow_when=_FULL)
    other.status = "active"  # on another node: it is passed on
    other.save()
    assert overflow_gaps(take_picture()) == []


@pytest.fixture
def three(cast: Cast) -> tuple[IpPool, IpPool]:
    """Acme's pool on the nodes a and b, which overflows when full to one on a, b and c."""
    for name in ("a", "b", "c"):
        beat(name)
    warm = make.ip_pool("Warm", is_shared=False)
    pool = make.ip_pool("Acme", is_shared=False, overflow_pool=warm, overflow_when=_FULL)
    make.pool_rule(cast.acme, pool)
    for number, (of, node) in enumerate(
        [(pool, "b"), (pool, "a"), (warm, "c"), (warm, "b"), (warm, "a")]
    ):
        make.ip_address(of, f"127.0.9.{number + 1}", node=node)
    return pool, warm


def line_of(cast: Cast, settings: Settings) -> dict[str, str]:
    """Return for each node to which one it passes on what it has no room for."""
    found = {}
    for name in ("a", "b", "c"):
        settings.DELIVERY_NODE = name
        ways(cast)
        found[name] = node_after(cast.acme.pk, "broadcast", None)
    return found


def test_a_full_node_passes_on_to_the_pools_others_then_to_where_it_overflows(
    cast: Cast, three: tuple[IpPool, IpPool], settings: Settings
) -> None:
    assert line_of(cast, settings) == {"a": "b", "b": "c", "c": ""}


def test_nothing_is_passed_on_to_a_node_that_is_dead_or_draining(
    cast: Cast, three: tuple[IpPool, IpPool], settings: Settings
) -> None:
    die("b")
    assert line_of(cast, settings)["a"] == "c"
    DeliveryNode.objects.filter(name="c").update(is_draining=True)
    assert line_of(cast, settings)["a"] == ""


def test_nothing_is_passed_on_to_where_a_pool_does_not_overflow_when_full(
    cast: Cast, three: tuple[IpPool, IpPool], settings: Settings
) -> None:
    IpPool.objects.filter(pk=three[0].pk).update(overflow_when=_UNAVAILABLE)
    assert line_of(cast, settings) == {"a": "b", "b": "", "c": "a"}


def test_what_everybody_has_is_passed_on_to_the_first_in_line(
    cast: Cast, three: tuple[IpPool, IpPool], settings: Settings
) -> None:
    three[0].addresses.update(node="")
    three[1].addresses.exclude(node="c").delete()
    assert line_of(cast, settings) == {"a": "c", "b": "c", "c": ""}


def test_what_is_passed_on_leaves_from_what_the_node_has(
    cast: Cast, three: tuple[IpPool, IpPool], settings: Settings
) -> None:
    settings.DELIVERY_NODE = "c"
    assert ways(cast) == [], "mail that was not passed on is left to the pool's nodes"
    found = ways_out(cast.acme.pk, "broadcast", None, is_passed=True)
    assert [(way.source.address, way.rank) for way in found] == [("127.0.9.3", 1)]
    IpPool.objects.filter(pk=three[0].pk).update(overflow_when=_UNAVAILABLE)
    forget_sources()
    assert ways_out(cast.acme.pk, "broadcast", None, is_passed=True) == ()
