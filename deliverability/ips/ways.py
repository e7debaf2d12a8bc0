"""Which addresses mail leaves from: the choice itself, over a picture of pools and nodes.

Pools make levels: level 0 is the pool of the tenant's rule, or all shared pools of the stream; the
next level is where those overflow to. A level's addresses have its number as their rank.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from django.utils import timezone

from deliverability.ips.models import DeliveryNode, IpAddress, IpPool
from deliverability.ips.nodes import is_alive
from deliverability.ips.types import RankedSource, SourceIp

_ACTIVE = IpAddress.Status.ACTIVE


@dataclass(frozen=True, slots=True)
class Picture:
    """All pools with their addresses, and all nodes, as they were at `at`."""

    at: dt.datetime
    pools: Mapping[uuid.UUID, IpPool]
    addresses: Mapping[uuid.UUID, list[IpAddress]]  # by pool, whatever their status
    nodes: Mapping[str, DeliveryNode]

    def active(self, pools: Iterable[IpPool]) -> list[IpAddress]:
        """Return the active addresses of `pools`, wherever they are."""
        return [
            row
            for pool in pools
            for row in self.addresses.get(pool.pk, ())
            if row.status == _ACTIVE
        ]

    def can_send(self, row: IpAddress) -> bool:
        """Tell whether a node that has the address is there to send."""
        node = self.nodes.get(row.node)
        return not row.node or (node is not None and is_alive(node, self.at))


def take_picture() -> Picture:
    """Read pools, addresses and nodes: three small queries, the same for all tenants."""
    pools = {pool.pk: pool for pool in IpPool.objects.order_by("name")}
    addresses: dict[uuid.UUID, list[IpAddress]] = {}
    for row in IpAddress.objects.order_by("id"):
        addresses.setdefault(row.pool_id, []).append(row)
    nodes = {node.name: node for node in DeliveryNode.objects.all()}
    return Picture(timezone.now(), pools, addresses, nodes)


def first_level(picture: Picture, rule: uuid.UUID | None, stream: str) -> list[IpPool]:
    """Return the pool of the rule, else the shared pools of the stream, else those of any stream.

    Of shared pools, the first kind with an active address counts; without one, the first with any
    address at all: its mail waits. An empty list: nobody has entered an address.
    """
    if rule is not None:
        return [picture.pools[rule]]
    kinds = [
        [pool for pool in picture.pools.values() if pool.is_shared and pool.purpose == purpose]
        for purpose in (stream, IpPool.Purpose.ANY)
    ]
    for pools in kinds:
        if picture.active(pools):
            return pools
    for pools in kinds:
        if any(picture.addresses.get(pool.pk) for pool in pools):
            return pools
    return []


def levels(picture: Picture, first: list[IpPool]) -> Iterator[tuple[int, list[IpPool]]]:
    """Yield (rank, pools) from the first level on, as far as overflow is allowed now."""
    seen: set[uuid.UUID] = set()
    level, rank = first, 0
    while level:
        yield rank, level
        seen.update(pool.pk for pool in level)
        is_down = not any(picture.can_send(row) for row in picture.active(level))
        allowed = {IpPool.Overflow.FULL} | ({IpPool.Overflow.UNAVAILABLE} if is_down else set())
        next_ids = {
            pool.overflow_pool_id
            for pool in level
            if pool.overflow_when in allowed and pool.overflow_pool_id is not None
        }
        level = [pool for key, pool in picture.pools.items() if key in next_ids - seen]
        rank += 1


def ways_from(
    picture: Picture, first: list[IpPool], node: str, *, is_passed: bool = False
) -> tuple[RankedSource, ...]:
    """Return the sources that `node` may use, by rank.

    Empty when the first addresses that can send are another live node's (the mail is left to it),
    when none can send, or when `node` itself is draining. Mail that `is_passed` on to `node` (by
    `next_node`) leaves from what it has, whoever else has addresses.
    """
    own = picture.nodes.get(node)
    if own is not None and own.is_draining:
        return ()
    found: list[RankedSource] = []
    for rank, pools in levels(picture, first):
        here = [row for row in picture.active(pools) if row.node in {"", node}]
        is_others = not (here or found or is_passed)
        if is_others and any(map(picture.can_send, picture.active(pools))):
            return ()
        found += [_ranked(row, rank, picture.pools[row.pool_id].name) for row in here]
    return tuple(found)


def next_node(picture: Picture, first: list[IpPool], node: str) -> str:
    """Return who may take what `node` has no room for; "" when nobody may.

    The nodes that can send stand in line by the rank of their best address, then by name, as far as
    overflow is allowed: mail is only ever passed on down the line, so that it comes to its end.
    """
    line: dict[str, None] = {}
    for _, pools in levels(picture, first):
        rows = [row for row in picture.active(pools) if row.node and picture.can_send(row)]
        line.update(dict.fromkeys(sorted(row.node for row in rows)))
    names = list(line)
    after = names[names.index(node) + 1 :] if node in line else names
    return after[0] if after else ""


def _ranked(row: IpAddress, rank: int, pool: str) -> RankedSource:
    source = SourceIp(row.pk, row.address, row.ehlo_name)
    return RankedSource(source=source, rank=rank, weight=row.weight, pool=pool)


def why_none(picture: Picture, first: list[IpPool]) -> str:
    """Return why no node can send from these pools now, in words; "" when one can."""
    reasons = []
    for _, pools in levels(picture, first):
        if any(map(picture.can_send, picture.active(pools))):
            return ""
        reasons += [_why_not(picture, pool) for pool in pools]
    return " ".join(reasons)


def _why_not(picture: Picture, pool: IpPool) -> str:
    rows = picture.addresses.get(pool.pk, [])
    if not rows:
        return f"The pool {pool.name} has no address."
    active = [row for row in rows if row.status == _ACTIVE]
    idle = [row for row in rows if row.status != _ACTIVE]
    if not active:
        return f"Every address of the pool {pool.name} is {_why_idle(idle)}."
    names = sorted({row.node for row in active})
    reasons = [_why_node(picture, name, pool) for name in names]
    if idle:
        reasons.append(f"What else the pool {pool.name} has is {_why_idle(idle)}.")
    return " ".join(reasons)


def _why_idle(rows: list[IpAddress]) -> str:
    states = sorted({row.get_status_display().lower() for row in rows})
    why = next((f": {row.status_reason}" for row in rows if row.status_reason), "")
    return f"{' or '.join(states)}{why.rstrip('.')}"


def _why_node(picture: Picture, name: str, pool: IpPool) -> str:
    node = picture.nodes.get(name)
    which = f"The node {name}, which has addresses of the pool {pool.name},"
    if node is None:
        return f"{which} has never given a sign of life."
    if node.is_draining and node.seen_at >= picture.at - dt.timedelta(minutes=1):
        return f"{which} is draining."
    since = node.seen_at.astimezone(dt.UTC)
    return f"{which} has given no sign of life since {since:%Y-%m-%d %H:%M:%S} UTC."


def overflow_gaps(picture: Picture) -> list[str]:
    """Return in words where a full pool's mail cannot overflow."""
    return [
        f"When {pool.name} is full, its mail waits: {target.name} has no active address."
        for pool in picture.pools.values()
        if (target := picture.pools.get(pool.overflow_pool_id or pool.pk)) is not None
        and pool.overflow_when == IpPool.Overflow.FULL
        and target is not pool
        and not picture.active([target])
    ]
