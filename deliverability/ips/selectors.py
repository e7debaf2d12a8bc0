"""Reads of pools and source IPs; above all: which addresses a tenant's stream leaves from."""

from __future__ import annotations

import datetime as dt
import time
import uuid
from typing import Literal, NamedTuple, overload

from django.apps import apps
from django.conf import settings
from django.db.models import Count, Prefetch, Q, QuerySet
from django.utils import timezone

from deliverability.ips.models import DeliveryNode, IpAddress, IpCap, IpPool, PoolRule
from deliverability.ips.nodes import is_alive, this_node
from deliverability.ips.types import RankedSource, SourceIp
from deliverability.ips.ways import (
    Picture,
    first_level,
    levels,
    next_node,
    take_picture,
    ways_from,
    why_none,
)
from tenants.scoping.context import scope

__all__ = [
    "RankedSource",
    "SourceIp",
    "caps_of",
    "domains_of",
    "forget_sources",
    "is_capped_today",
    "is_known_node",
    "living_nodes",
    "node_after",
    "nodes_with_addresses",
    "own_addresses",
    "pool_rules_of",
    "pools_with_addresses",
    "ways_out",
    "why_no_source",
]

# A change by the operator, or a node's death, reaches every delivery process within this time.
_KEEP_SECONDS = 30.0
_KEEP_EMPTY_SECONDS = 5.0
# By the ids' numbers: hashing and comparing UUIDs is Python, for each message twice.
_Key = tuple[int, str, int]
_Ways = tuple[RankedSource, ...]


class _Kept(NamedTuple):
    """What is known for mail of a kind on this node, until then by the monotonic clock."""

    until: float
    ways: _Ways
    passed: _Ways  # for mail that was passed on to this node
    next_node: str


_kept: dict[_Key, _Kept] = {}
_picture: tuple[float, Picture] | None = None
_KEEP_KEYS = 50_000


@overload
def ways_out(
    tenant_id: uuid.UUID, stream: str, domain_id: uuid.UUID | None, *,
    load: Literal[True] = True, is_passed: bool = False,
) -> _Ways: ...  # fmt: skip
@overload
def ways_out(
    tenant_id: uuid.UUID, stream: str, domain_id: uuid.UUID | None, *,
    load: bool, is_passed: bool = False,
) -> _Ways | None: ...  # fmt: skip


def ways_out(
    tenant_id: uuid.UUID,
    stream: str,
    domain_id: uuid.UUID | None,
    *,
    load: bool = True,
    is_passed: bool = False,
) -> _Ways | None:
    """Return the sources of this node that mail of `stream` from `domain_id` may leave from.

    The rule for (tenant, stream, domain) counts, else (tenant, stream), else the shared pools of
    the stream, else those of any stream; a tenant with a rule never falls to shared pools. Rank 0
    is the pool, higher ranks where it overflows to: offered when no live node has an active address
    of the ranks before ("unavailable"), or always ("full": tried when the ranks before have no
    room). Where nobody has entered an address, one unbound source: the system's choice.

    Empty: leave the mail to another node, or let it wait when `why_no_source` has a reason. For
    mail that `is_passed` on to this node, the node before having no room: whatever it has.

    Kept for 30 seconds (5 when empty) in the process; with `load=False` only what is kept is
    returned, else None (for event loops, which must not ask the database).
    """
    kept = _kept.get(_key(tenant_id, stream, domain_id))
    if kept is None or time.monotonic() >= kept.until:
        if not load:
            return None
        kept = _load(tenant_id, stream, domain_id)
    return kept.passed if is_passed else kept.ways


def node_after(tenant_id: uuid.UUID, stream: str, domain_id: uuid.UUID | None) -> str:
    """Return the node that may take such mail when this one has no room for it; "" for none.

    As `ways_out` knew it when it was asked last; never asks the database.
    """
    kept = _kept.get(_key(tenant_id, stream, domain_id))
    return kept.next_node if kept is not None else ""


def _key(tenant_id: uuid.UUID, stream: str, domain_id: uuid.UUID | None) -> _Key:
    return tenant_id.int, stream, 0 if domain_id is None else domain_id.int


def _load(tenant_id: uuid.UUID, stream: str, domain_id: uuid.UUID | None) -> _Kept:
    picture = _recent_picture()
    rule = _rule_for(tenant_id, stream, domain_id)
    if rule is not None and rule not in picture.pools:  # made within the last seconds
        picture = take_picture()
    first, node = first_level(picture, rule, stream), this_node()
    if first:
        ways = ways_from(picture, first, node)
        passed = ways_from(picture, first, node, is_passed=True)
        after = next_node(picture, first, node)
    else:
        unbound = SourceIp(None, "", f"mail.{settings.PRODUCT_DOMAIN}")
        ways = passed = (RankedSource(source=unbound, rank=0, weight=1, pool=""),)
        after = ""
    if len(_kept) >= _KEEP_KEYS:
        _kept.clear()
    seconds = _KEEP_SECONDS if ways else _KEEP_EMPTY_SECONDS
    found = _Kept(time.monotonic() + seconds, ways, passed, after)
    _kept[_key(tenant_id, stream, domain_id)] = found
    return found


def _recent_picture() -> Picture:
    """Return pools and nodes as they were seconds ago: the same for all tenants."""
    global _picture  # noqa: PLW0603 (the process's one picture)
    now = time.monotonic()
    if _picture is None or now - _picture[0] >= _KEEP_EMPTY_SECONDS:
        _picture = (now, take_picture())
    return _picture[1]


def _rule_for(tenant_id: uuid.UUID, stream: str, domain_id: uuid.UUID | None) -> uuid.UUID | None:
    """Return the pool that the tenant's rules choose: the domain's first, then the stream's own."""
    with scope(tenant_id):
        rows = PoolRule.objects.filter(stream__in=[stream, IpPool.Purpose.ANY]).filter(
            Q(domain_id=domain_id) | Q(domain_id=None)
        )
        found = {(row.domain_id, row.stream): row.pool_id for row in rows}
    for domain in (domain_id, None):
        for purpose in (stream, IpPool.Purpose.ANY):
            if (domain, purpose) in found:
                return found[(domain, purpose)]
    return None


def why_no_source(tenant_id: uuid.UUID, stream: str, domain_id: uuid.UUID | None) -> str:
    """Return why no node can send this mail now, in words for people; "" when one can.

    Asks the database: for pages, and for the reason that a held message gets.
    """
    picture = take_picture()
    first = first_level(picture, _rule_for(tenant_id, stream, domain_id), stream)
    return why_none(picture, first) if first else ""


def is_capped_today(tenant_id: uuid.UUID, stream: str, domain_id: uuid.UUID | None) -> bool:
    """Tell whether an address that this mail may leave from has a cap today: it warms up."""
    picture = _recent_picture()
    rule = _rule_for(tenant_id, stream, domain_id)
    if rule is not None and rule not in picture.pools:
        return False
    pools = [
        pool for _, level in levels(picture, first_level(picture, rule, stream)) for pool in level
    ]
    addresses = [row.pk for row in picture.active(pools)]
    today = timezone.now().astimezone(dt.UTC).date()
    return IpCap.objects.filter(ip__in=addresses, on=today).exists()


def forget_sources() -> None:
    """Drop what this process has kept."""
    global _picture  # noqa: PLW0603
    _kept.clear()
    _picture = None


def pools_with_addresses(day: dt.date) -> QuerySet[IpPool]:
    """Return all pools by name with the count of active addresses, and all their addresses.

    Each address has its caps of `day` in `caps_today`.
    """
    active = Count("addresses", filter=Q(addresses__status=IpAddress.Status.ACTIVE))
    caps = Prefetch("caps", IpCap.objects.filter(on=day).order_by("site"), to_attr="caps_today")
    rows = IpAddress.objects.order_by("address").prefetch_related(caps)
    addresses = Prefetch("addresses", rows)
    pools = IpPool.objects.select_related("overflow_pool").annotate(active=active)
    return pools.prefetch_related(addresses).order_by("name")


def is_known_node(name: str) -> bool:
    """Tell whether a node of this name has ever given a sign of life."""
    return DeliveryNode.objects.filter(name=name).exists()


def caps_of(row: IpAddress, since: dt.date) -> QuerySet[IpCap]:
    """Return an address's caps from a day on, by day and site."""
    return row.caps.filter(on__gte=since).order_by("on", "site")


def domains_of(tenant_id: uuid.UUID) -> list[tuple[uuid.UUID, str]]:
    """Return a tenant's sending domains as (id, name), for rules that name one."""
    # By the app's registry: rules point to domains, but the rooms stand side by side.
    with scope(tenant_id):
        rows = apps.get_model("deliverability", "Domain").objects.order_by("name")
        return list(rows.values_list("pk", "name"))


def pool_rules_of(tenant_id: uuid.UUID) -> list[PoolRule]:
    """Return a tenant's rules with their pools."""
    with scope(tenant_id):
        rows = PoolRule.objects.select_related("pool", "domain")
        return list(rows.order_by("stream", "domain__name"))


def own_addresses() -> frozenset[str]:
    """Return every source IP of this system, whatever its state: mail to one would loop."""
    return frozenset(IpAddress.objects.values_list("address", flat=True))


def living_nodes(now: dt.datetime) -> list[str]:
    """Return the names of the nodes that can send at `now`."""
    return [node.name for node in DeliveryNode.objects.all() if is_alive(node, now)]


def nodes_with_addresses() -> list[tuple[DeliveryNode, list[IpAddress]]]:
    """Return each node that is known or owns an address, with what it owns, by name.

    A node that has never given a sign of life has no `seen_at`.
    """
    owned: dict[str, list[IpAddress]] = {}
    for row in IpAddress.objects.exclude(node="").select_related("pool").order_by("address"):
        owned.setdefault(row.node, []).append(row)
    known = {node.name: node for node in DeliveryNode.objects.all()}
    names = sorted(known | owned)
    return [(known.get(name) or DeliveryNode(name=name), owned.get(name, [])) for name in names]
