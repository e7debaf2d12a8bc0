"""The mailbox provider behind a set of MX hosts: whom a domain's mail really goes to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from sending.engine.ports import MxAnswer
from sending.engine.shaping.limits import Limits

# A site's name is stored with every message.
MAX_SITE = 60
ROUTE_PREFIX = "route:"


@dataclass(frozen=True, slots=True)
class Site:
    """A mailbox provider: `suffixes` of its MX hosts' names, `mx` recorded examples of them."""

    id: str
    title: str
    suffixes: tuple[str, ...]
    mx: tuple[str, ...]
    limits: Limits
    source: str


class SiteIndex:
    """Finds the site of an MX host by the labels of its name, whatever the number of sites."""

    def __init__(self, sites: Iterable[Site]) -> None:
        self._by_suffix: Mapping[str, str] = {
            suffix: site.id for site in sites for suffix in site.suffixes
        }

    def of_host(self, host: str) -> str | None:
        """Return the site whose suffix `host` ends in, at a label's border; None if none does."""
        name = host.rstrip(".").lower()
        while name:
            if (site := self._by_suffix.get(name)) is not None:
                return site
            _, _, name = name.partition(".")
        return None

    def of_answer(self, answer: MxAnswer) -> str:
        """Return the site's id, else the set of MX hosts by name, at most MAX_SITE characters.

        The best hosts decide (a domain with an old spare MX elsewhere is its main provider's);
        where they disagree nobody is the provider.
        """
        if not answer.hosts:
            return shorten(answer.domain)
        best = min(host.preference for host in answer.hosts)
        sites = {self.of_host(host.name) for host in answer.hosts if host.preference == best}
        site = sites.pop()
        if site is not None and not sites:
            return site
        return shorten(",".join(sorted({h.name.rstrip(".").lower() for h in answer.hosts})))


@lru_cache(maxsize=10_000)
def shorten(hosts: str) -> str:
    """Return a stable name for a comma-separated set of hosts, at most MAX_SITE characters.

    A set that is too long keeps its first host in sight, and a digest that tells it from others:
    "mx1.example.com+3~0f1e2d3c4b5a". A single label is marked, so that nobody's MX record can
    pass for a provider's id ("google").
    """
    if "." not in hosts:
        hosts = f"{hosts}."
    if len(hosts) <= MAX_SITE:
        return hosts
    first, *others = hosts.split(",")
    digest = hashlib.sha256(hosts.encode()).hexdigest()[:12]
    tail = f"+{len(others)}~{digest}"
    return first[: MAX_SITE - len(tail)] + tail


def route_site(route: str) -> str:
    """Return the site that stands for a route in its lane: "route:" and its name, MAX_SITE at most.

    A name that is too long ends in a digest, so that two of them never share a lane.
    """
    name = f"{ROUTE_PREFIX}{route}"
    if len(name) <= MAX_SITE:
        return name
    tail = f"~{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return name[: MAX_SITE - len(tail)] + tail


def readable(site: str) -> str:
    """Return the name of a site that is a set of hosts as people read it."""
    first, tilde, _ = site.rpartition("~")
    if not tilde:
        return site.replace(",", ", ")
    host, _, others = first.rpartition("+")
    return f"{host} and {others} more" if others != "0" else host
