"""Where mail for a domain goes: MX look-up with implicit MX, null MX, limits and a cache."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import itertools
import random
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Literal

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.name
import dns.rdatatype
import dns.resolver

from esp.lib.clock import Clock
from sending.engine.addresses import ascii_domain
from sending.engine.cache import TtlCache
from sending.engine.ports import Address, AddressAnswer, MxAnswer, MxHost

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# What is kept of one answer: 64 KB of it for each of 50,000 names would be gigabytes, and who owns
# a zone says how much there is.
MAX_RECORDS = 50
MAX_TEXT_OCTETS = 4096

# The only unicast addresses given out so far (IANA, IPv6 Global Unicast Address Assignments), but
# for documentation (RFC 9637).
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_DOCUMENTATION = ipaddress.IPv6Network("3fff::/20")
# NAT64 (RFC 6052): a gateway sends these on to the IPv4 address in their last 32 bits.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class MxSettings:
    """How to ask and how much to believe.

    `allow_private` lets mail go to private and loopback addresses: for the simulated internet and
    the tests only, since otherwise anybody's MX record could aim our connections at our own
    network. `own_addresses` are never connected to: mail for ourselves by this way is a loop. They
    may be a set that its owner changes.
    """

    nameservers: tuple[str, ...]
    port: int = 53
    timeout_seconds: float = 3.0
    lifetime_seconds: float = 8.0
    max_hosts: int = 5
    max_addresses: int = 4
    cache_size: int = 50_000
    min_ttl_seconds: float = 30.0
    max_ttl_seconds: float = 3600.0
    negative_ttl_seconds: float = 300.0
    # RFC 2308 section 7.1: a server failure may be cached, five minutes at most.
    failure_ttl_seconds: float = 10.0
    allow_private: bool = False
    own_addresses: Set[str] = frozenset()
    # The name servers check DNSSEC, and nobody can change their answers on the way to us (RFC 7672
    # section 2.1.1): only then their AD flag says anything.
    validates: bool = False


@dataclass(frozen=True, slots=True)
class _Found:
    """What the DNS said to one question; `records` are strings as the question's type has them."""

    status: Literal["found", "empty", "nxdomain", "temporary"]
    records: tuple[str, ...] = ()
    ttl: float = 0.0
    text: str = ""
    is_secure: bool = False


class MxResolver:
    """Implements `ports.Resolver` over dnspython; one per event loop."""

    def __init__(
        self, settings: MxSettings, *, clock: Clock, rng: random.Random | None = None
    ) -> None:
        self._settings = settings
        self._rng = rng or random.SystemRandom()
        self._cache: TtlCache[tuple[str, str], _Found] = TtlCache(
            size=settings.cache_size, clock=clock
        )
        self._under_way: dict[tuple[str, str], asyncio.Task[_Found]] = {}
        self._resolver = dns.asyncresolver.Resolver(configure=False)
        self._resolver.nameservers = list(settings.nameservers)
        self._resolver.port = settings.port
        self._resolver.timeout = settings.timeout_seconds
        self._resolver.lifetime = settings.lifetime_seconds
        if settings.validates:
            self._resolver.use_edns(0, dns.flags.DO, 1232)
            self._resolver.flags = dns.flags.RD | dns.flags.AD

    async def close(self) -> None:
        """Stop the look-ups under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def mx(self, domain: str) -> MxAnswer:
        """Return the mail servers of `domain`, at most `max_hosts`, best first.

        Who connects draws among those of the same preference (RFC 5321 section 5.1).
        """
        try:
            name = ascii_domain(domain)
        except ValueError as error:
            return _no_mail(domain, f"{domain!r}: {error}")
        found = await self._look_up(name, "MX")
        if found.status == "nxdomain":
            return _no_mail(name, f"The domain {name} does not exist (NXDOMAIN).")
        if found.status == "temporary":
            return _not_now(name, f"Looking up the MX records of {name} failed: {found.text}")
        if found.status == "found":
            return self._explicit(name, found)
        return await self._implicit(name)

    async def addresses(self, host: str, *, version: int) -> AddressAnswer:
        """Return at most `max_addresses` addresses of `host`, each judged whether we may go there.

        `version` is 4 or 6. The order is drawn anew each time, to spread the load.
        """
        try:
            name = ascii_domain(host)
        except ValueError as error:
            return AddressAnswer(host, is_missing=True, text=str(error))
        found = await self._look_up(name, "A" if version == 4 else "AAAA")
        if found.status == "temporary":
            return AddressAnswer(host, text=f"Looking up {host} failed: {found.text}.")
        if found.status == "nxdomain":
            return AddressAnswer(host, is_missing=True, text=f"{host} does not exist.")
        if found.status == "empty":
            return AddressAnswer(host, text=f"{host} has no IPv{version} address.")
        chosen = self._rng.sample(found.records, len(found.records))[: self._settings.max_addresses]
        addresses = tuple(Address(ip, self._refusal(ip)) for ip in chosen)
        return AddressAnswer(host, addresses, is_secure=found.is_secure)

    async def texts(self, name: str) -> tuple[str, ...]:
        """Return the TXT records of `name`, the strings of each joined; none when DNS fails."""
        return (await self._look_up(name, "TXT")).records

    async def tlsa(self, host: str, port: int) -> tuple[str, ...] | None:
        """Return the secure TLSA records of `host`, () when there are none; None: not to be known.

        RFC 7672 section 2.1.1: without the answer, or with a bogus one, the host must be left out.
        """
        found = await self._look_up(f"_{port}._tcp.{host}", "TLSA")
        if found.status == "temporary":
            return None
        return found.records if found.is_secure else ()

    def _explicit(self, name: str, found: _Found) -> MxAnswer:
        hosts = _hosts(found.records)
        if not hosts:
            # RFC 7505: a lone MX of "." says that the domain accepts no mail at all. Among other
            # records it is a mistake, and the others are used.
            return _no_mail(name, f"The domain {name} accepts no mail (null MX, RFC 7505).")
        return MxAnswer(name, hosts[: self._settings.max_hosts], is_secure=found.is_secure)

    async def _implicit(self, name: str) -> MxAnswer:
        """No MX: the domain's own address is its mail server (RFC 5321 section 5.1)."""
        answers = [await self._look_up(name, kind) for kind in ("A", "AAAA")]
        if any(answer.status == "found" for answer in answers):
            return MxAnswer(name, (MxHost(name, 0),))
        if any(answer.status == "temporary" for answer in answers):
            return _not_now(name, f"Looking up the address of {name} failed.")
        return _no_mail(name, f"The domain {name} has neither a mail server nor an address.")

    def _refusal(self, ip: str) -> str:
        if ip in self._settings.own_addresses:
            return f"{ip} is an address of this system: delivering there would loop"
        if not self._settings.allow_private and not is_public(ipaddress.ip_address(ip)):
            return f"{ip} is not a public address"
        return ""

    async def _look_up(self, name: str, kind: str) -> _Found:
        """Ask the cache, else the DNS; the same question asked twice at once is sent once."""
        key = (name, kind)
        cached = self._cache.get(key)
        if cached is not None:
            return cached
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.create_task(self._ask(name, kind))
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        # Shielded: one message given up must not take the answer from the others that wait.
        found = await asyncio.shield(task)
        self._cache.put(key, found, seconds=self._lifetime(found))
        return found

    def _lifetime(self, found: _Found) -> float:
        settings = self._settings
        if found.status == "temporary":
            return settings.failure_ttl_seconds
        if found.status != "found":
            return settings.negative_ttl_seconds
        return min(max(found.ttl, settings.min_ttl_seconds), settings.max_ttl_seconds)

    async def _ask(self, name: str, kind: str) -> _Found:
        try:
            answer = await self._resolver.resolve(
                dns.name.from_text(name), kind, search=False, raise_on_no_answer=False
            )
        except (dns.resolver.NXDOMAIN, dns.resolver.YXDOMAIN, dns.name.LabelTooLong):
            return _Found("nxdomain")
        except dns.resolver.NoNameservers:
            return _Found("temporary", text="every name server failed (SERVFAIL)")
        except dns.exception.Timeout:
            return _Found("temporary", text="the name servers did not answer in time")
        # dnspython follows at most 16 CNAMEs and raises ChainTooLong for a loop.
        except (dns.exception.DNSException, OSError) as error:
            return _Found("temporary", text=f"{type(error).__name__}: {error}")
        if answer.rrset is None:
            return _Found("empty")
        is_secure = self._settings.validates and bool(answer.response.flags & dns.flags.AD)
        return _Found("found", _records(answer), float(answer.rrset.ttl), is_secure=is_secure)


def is_public(ip: IpAddress) -> bool:
    """Tell whether `ip` is a unicast address of the public Internet (IANA special registries)."""
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if ip not in _GLOBAL_UNICAST or ip in _DOCUMENTATION:
            return False
    return ip.is_global and not ip.is_multicast


def equals_drawn(hosts: Sequence[MxHost], rng: random.Random) -> Sequence[MxHost]:
    """Return `hosts`, best first, with those of one preference in random order (RFC 5321, 5.1)."""
    if len({host.preference for host in hosts}) == len(hosts):
        return hosts
    drawn = rng.sample(hosts, len(hosts))
    drawn.sort(key=lambda host: host.preference)
    return drawn


@functools.lru_cache(maxsize=20_000)
def _hosts(records: tuple[str, ...]) -> tuple[MxHost, ...]:
    """Read MX records as `_records` writes them, without the null MX: each host once, best first.

    Equals by name: which hosts are left, and so the site's name, must not be up to chance.
    """
    best: dict[str, int] = {}
    for record in records:
        preference, _, target = record.partition(" ")
        if target:
            best[target] = min(int(preference), best.get(target, 65_535))
    ordered = sorted(best.items(), key=lambda pair: (pair[1], pair[0]))
    return tuple(MxHost(name, preference) for name, preference in ordered)


def _records(answer: dns.resolver.Answer) -> tuple[str, ...]:
    """Return the answer's records as text; an MX as "preference target", target "" for ".".

    At most MAX_RECORDS: of MX the best ones, of others any. Texts that would make more than
    MAX_TEXT_OCTETS are left out: no policy record is that long.
    """
    if answer.rdtype == dns.rdatatype.MX:
        best = sorted(answer, key=lambda record: (record.preference, record.exchange))
        return tuple(
            f"{record.preference} {record.exchange.to_text(omit_final_dot=True).lower()}"
            if record.exchange != dns.name.root
            else f"{record.preference} "
            for record in best[:MAX_RECORDS]
        )
    records = list(itertools.islice(answer, MAX_RECORDS))
    if answer.rdtype == dns.rdatatype.TXT:
        return tuple(_bounded(b"".join(record.strings) for record in records))
    if answer.rdtype == dns.rdatatype.TLSA:
        return tuple(record.to_text() for record in records)
    return tuple(record.address for record in records)


def _bounded(texts: Iterable[bytes]) -> Iterator[str]:
    left = MAX_TEXT_OCTETS
    for text in texts:
        if len(text) <= left:
            left -= len(text)
            yield text.decode("utf-8", "replace")


def _no_mail(domain: str, text: str) -> MxAnswer:
    return MxAnswer(domain, kind="bounced", classification="hard/invalid-domain", text=text)


def _not_now(domain: str, text: str) -> MxAnswer:
    return MxAnswer(domain, kind="deferred", classification="soft/network-error", text=text)
