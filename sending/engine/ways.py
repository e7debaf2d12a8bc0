"""In which order the ways of a message are tried."""

from __future__ import annotations

import random
from collections.abc import Sequence

from sending.engine.ports import Lane, Outcome, Way
from sending.engine.shaping.sites import route_site


def ordered_ways(ways: Sequence[Way], rng: random.Random) -> Sequence[Way]:
    """Return `ways` by rank, within a rank drawn by weight; a weight of 0 stands last in its rank.

    Each place is drawn among those left with a chance of weight / sum of weights (Efraimidis and
    Spirakis 2006, "Weighted random sampling with a reservoir").
    """
    if len(ways) < 2:
        return ways
    # The key log(u) / weight orders like u ** (1 / weight), without its loss of precision.
    keys = [
        (way.rank, rng.expovariate(1.0) / way.weight if way.weight > 0 else float("inf"), number)
        for number, way in enumerate(ways)
    ]
    return [ways[number] for _, _, number in sorted(keys)]


def lane_of(way: Way, site: str) -> Lane:
    """Return the lane of a message that leaves by `way`; `site` is its domain's, if looked up."""
    if way.relay is None and way.carrier is None:
        return Lane(way.source.id, site)
    return Lane(way.source.id, route_site(way.route))


def is_direct(way: Way) -> bool:
    """Tell whether `way` goes to the mail servers of the recipient's domain."""
    return way.relay is None and way.carrier is None


def may_go_on(outcome: Outcome, way: Way) -> bool:
    """Tell whether the next way may be tried after `outcome` of `way`.

    Only when nothing of the message was taken, so that no message leaves by two ways, and only when
    the other way may fare better: our own address failed, or the relay was not to be had. A mail
    server of the domain that does not answer will not answer another source either.
    """
    if outcome.kind != "deferred" or outcome.is_ambiguous:
        return False
    if outcome.phase == "connect" and outcome.classification == "soft/server-error":
        return True  # an error of this machine, such as an address that is not there
    before_mail = outcome.phase in ("mx", "connect", "greeting", "ehlo", "tls", "auth")
    return before_mail and not is_direct(way)
