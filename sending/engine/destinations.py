"""Where a message goes by each of its ways: worked out once for all that go there in a second.

A campaign has thousands of recipients in one domain. Their MX hosts, site, lane and the name their
sessions are kept by are the same, and finding them anew cost a tenth of what the engine does for a
message.
"""

from __future__ import annotations

from collections.abc import Callable

from esp.lib.clock import Clock
from sending.engine.cache import TtlCache
from sending.engine.ports import Lane, MxAnswer, Relay, Resolver, TlsPolicy, Way
from sending.engine.smtp.idle import Key
from sending.engine.smtp.session import Origin
from sending.engine.ways import lane_of

# How long the resolver and the ways' owner are not asked again. No answer of the DNS is kept for
# less than thirty seconds, so this makes none noticeably older.
_KEPT_SECONDS = 1.0
_SIZE = 10_000
_MOST_TRAILS = 64  # of one destination


class Trail:
    """One way to one destination: the lane, what outcomes carry, and how its sessions are kept."""

    __slots__ = ("_keys", "lane", "origin", "target", "way")

    def __init__(self, way: Way, destination: Destination) -> None:
        self.way = way
        self.lane: Lane = lane_of(way, destination.site)
        self.origin = Origin(way.source, self.lane, way.route)
        self.target: MxAnswer | Relay | None = way.relay or destination.answer
        self._keys: dict[tuple[TlsPolicy, str], Key] = {}

    def key(self, tls: TlsPolicy, policy: str) -> Key:
        """Return what sessions are shared by, under the sender's demand and the domain's policy."""
        key = self._keys.get((tls, policy))
        if key is None:
            assert self.target is not None, "a direct way without an MX answer"
            name = self.target if isinstance(self.target, Relay) else self.target.site
            lane = self.lane
            key = (lane.source_id, lane.site, self.way.route, name, tls, policy)
            self._keys[tls, policy] = key
        return key


class Destination:
    """A domain's MX answer and site; both empty for what leaves by routes alone."""

    __slots__ = ("_trails", "answer", "site")

    def __init__(self, answer: MxAnswer | None = None, site: str = "") -> None:
        self.answer = answer
        self.site = site
        # By identity: direct ways are few, long-lived objects, and comparing two of them field by
        # field takes longer than making a trail. The trail holds on to its way. A route set makes
        # ways for each message; those are not gathered here for long.
        self._trails: dict[int, Trail] = {}

    def trail(self, way: Way) -> Trail:
        """Return what is known of `way` to here."""
        trail = self._trails.get(id(way))
        if trail is None:
            if len(self._trails) >= _MOST_TRAILS:
                self._trails.clear()
            trail = self._trails[id(way)] = Trail(way, self)
        return trail


class Destinations:
    """Finds destinations, and keeps the latest for a moment."""

    def __init__(
        self, resolver: Resolver, *, site_for: Callable[[MxAnswer], str] | None, clock: Clock
    ) -> None:
        """`site_for` names the site of an MX answer; by default it is the set of MX hosts."""
        self._resolver = resolver
        self._site_for = site_for or (lambda answer: answer.site)
        self._kept: TtlCache[str, Destination] = TtlCache(size=_SIZE, clock=clock)
        self.by_routes = Destination()  # of what needs no look-up; its ways say all

    def known(self, domain: str) -> Destination | None:
        """Return where mail for `domain` goes if somebody asked a moment ago."""
        return self._kept.get(domain)

    async def find(self, domain: str) -> Destination:
        """Look up where mail for `domain` goes; its answer may say that it cannot go."""
        answer = await self._resolver.mx(domain)
        if answer.kind is not None:
            return Destination(answer)
        found = Destination(answer, self._site_for(answer))
        self._kept.put(domain, found, seconds=_KEPT_SECONDS)
        return found
