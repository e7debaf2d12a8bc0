"""The records of the simulated DNS: what exists, what was published at run time, what is broken.

Reads come from the name server, the verifying threads and the readers; every change builds new
dictionaries and swaps them in, so readers need no lock.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
from publicsuffixlist import PublicSuffixList

from esp.simulator.config import SimulatorConfig
from esp.simulator.providers import Provider

# RFC 2606 and 6761: nobody can register these, so "does not exist" is the true answer for a name
# that nobody published. Any other name is none of ours.
RESERVED_TLDS = frozenset({"test", "example", "invalid", "localhost"})
PUBLISHABLE = frozenset({"A", "AAAA", "CAA", "CNAME", "MX", "NS", "PTR", "SRV", "TLSA", "TXT"})
MAX_CNAMES = 8
SOURCE_HOSTS = 16

_suffixes = PublicSuffixList()


class Status(Enum):
    """How a look-up ended. TIMEOUT means: do not answer at all."""

    FOUND = "found"
    NO_DATA = "no-data"
    NO_NAME = "no-name"
    REFUSED = "refused"
    FAILURE = "failure"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Record:
    """One record: owner name in lower case without the last dot, type as text, parsed value."""

    name: str
    type: str
    ttl: int
    rdata: dns.rdata.Rdata

    @property
    def value(self) -> str:
        """The value as people write it: TXT joined and unquoted, everything else as in a zone."""
        if self.type == "TXT":
            return b"".join(self.rdata.strings).decode("utf-8", "replace")  # type: ignore[attr-defined]
        return self.rdata.to_text()


@dataclass(frozen=True, slots=True)
class Lookup:
    """The answer to a look-up: status, the records (CNAMEs first), the zone that speaks."""

    status: Status
    records: tuple[Record, ...] = ()
    zone: str | None = None


@dataclass(frozen=True, slots=True)
class _Snapshot:
    rrsets: dict[tuple[str, str], tuple[Record, ...]] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    zones: frozenset[str] = frozenset()


def normal_name(name: str) -> str:
    return name.strip().rstrip(".").lower()


def org_domain(domain: str) -> str:
    """Return the registrable domain by the public suffix list (of `a.b.example`: `b.example`)."""
    return _suffixes.privatesuffix(normal_name(domain)) or normal_name(domain)


def make_record(name: str, type_: str, value: str, ttl: int = 300) -> Record:
    """Parse one record. Raises ValueError when type, name or value cannot stand in a zone."""
    type_ = type_.upper()
    if type_ not in PUBLISHABLE:
        raise ValueError(f"Records of type {type_} cannot be published here.")
    if type_ == "TXT" and not value.startswith('"'):
        value = _quoted(value)
    try:
        dns.name.from_text(name)
        rdata = dns.rdata.from_text(
            dns.rdataclass.IN,
            dns.rdatatype.from_text(type_),
            value,
            origin=dns.name.root,
            relativize=False,
        )
    except dns.exception.DNSException as error:
        raise ValueError(f"{name} {type_} is not a record: {error}") from error
    if not 0 <= ttl < 2**31:
        raise ValueError("The time to live of a record lies between 0 and 2147483647 seconds.")
    return Record(normal_name(name), type_, ttl, rdata)


def _quoted(text: str) -> str:
    # RFC 1035 3.3.14: a TXT record is a series of strings of at most 255 octets; a DKIM key of
    # 2048 bits needs two.
    octets = text.encode()
    chunks = [octets[start : start + 255] for start in range(0, len(octets), 255)] or [b""]
    return " ".join('"' + "".join(_escaped(octet) for octet in chunk) + '"' for chunk in chunks)


def _escaped(octet: int) -> str:
    if octet in b'"\\':
        return "\\" + chr(octet)
    return chr(octet) if 32 <= octet < 127 else f"\\{octet:03d}"


class ZoneStore:
    """All zones of the simulated internet, safe to read from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = _Snapshot()
        self._faults: dict[str, Status] = {
            "servfail.test": Status.FAILURE,
            "timeout.test": Status.TIMEOUT,
        }

    def publish(self, records: Iterable[Record], *, zone: str | None = None) -> None:
        """Publish records; they replace the record sets of the same name and type."""
        fresh: dict[tuple[str, str], list[Record]] = {}
        for record in records:
            fresh.setdefault((record.name, record.type), []).append(record)
        with self._lock:
            rrsets = {**self._now.rrsets, **{key: tuple(rrset) for key, rrset in fresh.items()}}
            zones = set(self._now.zones)
            if zone is not None:
                zones.add(zone)
            for name, _ in fresh:
                if _zone_of(name, zones) is None:
                    zones.add(org_domain(name))
            self._now = _Snapshot(rrsets, _names(rrsets, zones), frozenset(zones))

    def delete(self, domain: str) -> int:
        """Remove every record at and below the domain; returns how many."""
        domain = normal_name(domain)
        with self._lock:
            kept = {k: v for k, v in self._now.rrsets.items() if not is_within(k[0], domain)}
            removed = sum(len(v) for v in self._now.rrsets.values())
            removed -= sum(len(v) for v in kept.values())
            zones = frozenset(zone for zone in self._now.zones if not is_within(zone, domain))
            self._now = _Snapshot(kept, _names(kept, zones), zones)
        return removed

    def records(self, domain: str) -> list[Record]:
        """Return all records at and below a domain, by name and type."""
        domain = normal_name(domain)
        rrsets = self._now.rrsets
        keys = sorted(key for key in rrsets if is_within(key[0], domain))
        return [record for key in keys for record in rrsets[key]]

    def lookup(self, name: str, type_: str) -> Lookup:
        """Answer one question as an authoritative server does, following CNAMEs it knows."""
        name, now = normal_name(name), self._now
        for broken, status in self._faults.items():
            if is_within(name, broken):
                return Lookup(status)
        chain: list[Record] = []
        zone = _zone_of(name, now.zones)
        for _ in range(MAX_CNAMES):
            found = now.rrsets.get((name, type_))
            if found:
                return Lookup(Status.FOUND, (*chain, *found), zone)
            alias = now.rrsets.get((name, "CNAME"))
            if not alias:
                break
            chain.append(alias[0])
            name = normal_name(alias[0].rdata.target.to_text())  # type: ignore[attr-defined]
        return Lookup(_absence(name, now), tuple(chain), _zone_of(name, now.zones) or zone)

    def texts(self, name: str) -> list[bytes]:
        """Return the TXT records of a name, each joined to one string of octets."""
        found = self.lookup(name, "TXT").records
        return [
            b"".join(record.rdata.strings)  # type: ignore[attr-defined]
            for record in found
            if record.type == "TXT"
        ]

    def addresses(self, name: str) -> list[str]:
        """Return the IPv4 addresses of a host."""
        found = self.lookup(name, "A").records
        return [record.rdata.to_text() for record in found if record.type == "A"]

    def mail_hosts(self, domain: str) -> list[str]:
        """Return the MX hosts of a domain, best first; the domain itself when it has no MX."""
        found = [r.rdata for r in self.lookup(domain, "MX").records if r.type == "MX"]
        found.sort(key=lambda rdata: rdata.preference)  # type: ignore[attr-defined]
        hosts = [normal_name(rdata.exchange.to_text()) for rdata in found]  # type: ignore[attr-defined]
        return hosts or [normal_name(domain)]


def _absence(name: str, now: _Snapshot) -> Status:
    if name in now.names:
        return Status.NO_DATA
    if _zone_of(name, now.zones) or name.rpartition(".")[2] in RESERVED_TLDS:
        return Status.NO_NAME
    return Status.REFUSED


def is_within(name: str, domain: str) -> bool:
    return name == domain or name.endswith("." + domain)


def _ancestors(name: str) -> list[str]:
    labels = name.split(".")
    return [".".join(labels[start:]) for start in range(len(labels))]


def _zone_of(name: str, zones: Iterable[str]) -> str | None:
    known = zones if isinstance(zones, (set, frozenset)) else set(zones)
    return next((suffix for suffix in _ancestors(name) if suffix in known), None)


def _names(rrsets: Iterable[tuple[str, str]], zones: Iterable[str]) -> frozenset[str]:
    # A name between two others exists although it has no records (RFC 8020).
    names = set(zones)
    for owner, _ in rrsets:
        names.update(_ancestors(owner))
    return frozenset(names)


def build_zones(config: SimulatorConfig, providers: Iterable[Provider]) -> ZoneStore:
    """Return the zones that every simulated internet begins with."""
    store = ZoneStore()
    for provider in providers:
        store.publish(_provider_records(provider), zone=provider.domain)
    store.publish(_product_records(config), zone=config.product_domain)
    plain = next(host for p in providers for host in p.mx if p.domain == "plainmail.test")
    store.publish(_fault_records(plain.name, plain.address))
    return store


def _reverse(address: str, name: str) -> Record:
    return make_record(ip_address(address).reverse_pointer, "PTR", name + ".")


def _provider_records(provider: Provider) -> list[Record]:
    domain = provider.domain
    addresses = " ".join(f"ip4:{host.address}" for host in provider.mx)
    records = [
        make_record(domain, "TXT", f"v=spf1 {addresses} -all"),
        make_record(f"_dmarc.{domain}", "TXT", "v=DMARC1; p=reject"),
    ]
    for host in provider.mx:
        records.append(make_record(domain, "MX", f"{host.preference} {host.name}."))
        records.append(make_record(host.name, "A", host.address))
        records.append(_reverse(host.address, host.name))
    return records


def _product_records(config: SimulatorConfig) -> list[Record]:
    domain = config.product_domain
    spf = f"v=spf1 ip4:{config.source_network} -all"
    records = [
        make_record(f"mx.{domain}", "A", config.mx_of_product),
        _reverse(config.mx_of_product, f"mx.{domain}"),
        make_record(f"track.{domain}", "A", _site_address(config.site_url)),
        make_record(f"_dmarc.{domain}", "TXT", "v=DMARC1; p=none"),
    ]
    for name in (domain, f"bounces.{domain}", config.feedback_address.rpartition("@")[2]):
        records.append(make_record(name, "MX", f"10 mx.{domain}."))
        records.append(make_record(name, "TXT", spf))
    network = ip_network(config.source_network)
    for number in range(1, SOURCE_HOSTS + 1):
        host, address = f"out{number}.{domain}", str(network.network_address + number)
        records.extend([make_record(host, "A", address), _reverse(address, host)])
    return _without_repeats(records)


def _site_address(site_url: str) -> str:
    """Return the address of the site when it has one of its own on loopback, else 127.0.0.1."""
    host = urlsplit(site_url).hostname or ""
    try:
        address = ip_address(host)
    except ValueError:
        return "127.0.0.1"
    return host if address.version == 4 and address.is_loopback else "127.0.0.1"


def _without_repeats(records: list[Record]) -> list[Record]:
    return list({(r.name, r.type, r.rdata.to_text()): r for r in records}.values())


def _fault_records(host: str, address: str) -> list[Record]:
    return [
        make_record("nullmx.test", "MX", "0 ."),  # RFC 7505: accepts no mail
        make_record("nomx.test", "TXT", "This domain has neither an MX nor an address."),
        make_record("implicitmx.test", "A", address),  # RFC 5321 5.1: the address is the MX
        # The best host is dead and the second one answers: a sender must go on to it.
        make_record("deadmx.test", "MX", "10 dead.deadmx.test."),
        make_record("deadmx.test", "MX", f"20 {host}."),
        make_record("dead.deadmx.test", "A", "127.0.11.250"),
    ]
