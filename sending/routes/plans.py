"""From a set of routes to the ways of one message; asks neither database nor network."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sending.engine.ports import Carrier, Order, Outcome, Relay, Source, Way
from sending.routes.models import RouteSet

_FAILOVER = RouteSet.Strategy.FAILOVER
_ROUND_ROBIN = RouteSet.Strategy.ROUND_ROBIN
# Ranks that the ways of one place in a set may use among themselves (overflow of the IP pools).
_PLACE = 100
# Direct delivery spreads its share over several sources, so weights need room below one.
_SHARE = 100


@dataclass(frozen=True, slots=True)
class Resting:
    """Stands in for a route that rests, where nothing else may take the message.

    Nothing is tried: the outcome is a hold, so that no attempt is used up while a route is away.
    """

    route: str
    until: dt.datetime
    reason: str

    async def carry(self, order: Order, data: bytes) -> Outcome:
        """Return the hold."""
        now = dt.datetime.now(dt.UTC)
        why = f" ({self.reason})" if self.reason else ""
        return Outcome(
            kind="deferred",
            phase="throttle",
            classification="soft/network-error",
            text=f"The route {self.route} rests after failures{why}."[:1000],
            at=now,
            hold="route",
            retry_after_seconds=max((self.until - now).total_seconds(), 5.0),
        )


@dataclass(frozen=True, slots=True)
class Member:
    """A route as a set uses it. Without relay and carrier it is direct delivery.

    A relay's connections come from the source that `is_bound` says: the tenant's own, or whichever
    address the system chooses (a smarthost in a private network cannot be reached from another).
    """

    name: str
    relay: Relay | None = None
    carrier: Carrier | None = None
    weight: int = 1
    is_bound: bool = False
    ehlo_name: str = ""
    rests_until: dt.datetime | None = None
    last_error: str = ""

    @property
    def is_direct(self) -> bool:
        """Whether this is our own delivery."""
        return self.relay is None and self.carrier is None

    @property
    def route(self) -> str:
        """The name that its ways and outcomes carry: "" for direct delivery."""
        return "" if self.is_direct else self.name


@dataclass(frozen=True)
class Plan:
    """A route set as it stands, expanded for each message by `ways`."""

    strategy: str
    members: tuple[Member, ...]
    turns: Iterator[int] = field(default_factory=itertools.count, compare=False, repr=False)

    def ways(self, direct: Sequence[Way], *, only: str | None, now: dt.datetime) -> tuple[Way, ...]:
        """Return the ways of a message in this set.

        `direct` are the ways of our own delivery. A route that rests is left out; where all rest,
        the message is held. With `only`, the ways of that route alone, if the set still has it.
        """
        members = self.members
        if only is not None:
            members = tuple(found for found in members if found.route == only) or members
        awake = [found for found in members if not _rests(found, now)]
        if not awake:
            first = min(members, key=lambda found: found.rests_until or now)
            return (_resting_way(first, direct, now),)
        if self.strategy == _ROUND_ROBIN:
            start = next(self.turns) % len(awake)
            awake = awake[start:] + awake[:start]
        in_order = self.strategy in (_FAILOVER, _ROUND_ROBIN)
        ways: list[Way] = []
        for place, found in enumerate(awake):
            ways += _member_ways(
                found,
                direct,
                rank=place * _PLACE if in_order else 0,
                weight=1 if in_order else found.weight,
            )
        return tuple(ways)


def as_ways(direct: Sequence[Way | Source]) -> tuple[Way, ...]:
    """Return direct ways; a bare source becomes one."""
    return tuple([Way(found) if isinstance(found, Source) else found for found in direct])


def _rests(member: Member, now: dt.datetime) -> bool:
    return member.rests_until is not None and member.rests_until > now


def _member_ways(member: Member, direct: Sequence[Way], *, rank: int, weight: int) -> list[Way]:
    if not member.is_direct:
        source = _source(member, direct)
        return [Way(source, member.route, member.relay, member.carrier, rank, weight * _SHARE)]
    ways = []
    for found in direct:
        # The sources share the place's weight as they would without a set.
        beside = sum(max(other.weight, 0) for other in direct if other.rank == found.rank) or 1
        ways.append(
            Way(
                found.source,
                rank=rank + min(found.rank, _PLACE - 1),
                weight=-(-weight * _SHARE * max(found.weight, 0) // beside),
            )
        )
    return ways


def _source(member: Member, direct: Sequence[Way]) -> Source:
    if member.is_bound and direct:
        return direct[0].source
    return Source("", "", member.ehlo_name)


def _resting_way(member: Member, direct: Sequence[Way], now: dt.datetime) -> Way:
    until = member.rests_until or now
    stand_in = Resting(member.name, until, member.last_error)
    return Way(_source(member, direct), member.route, carrier=stand_in)
