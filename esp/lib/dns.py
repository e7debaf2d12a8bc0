"""DNS look-ups against the configured resolvers, synchronous, with answers as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import dns.exception
import dns.name
import dns.resolver


@dataclass(frozen=True, slots=True)
class Lookup:
    """The texts of one answer, or in `problem` the sentence why there is none.

    `is_temporary`: the servers did not answer; asking again later may help.
    """

    values: tuple[str, ...] = field(default_factory=tuple)
    problem: str = ""
    is_temporary: bool = False


def make_resolver(servers: Sequence[str]) -> dns.resolver.Resolver:
    """Return a resolver for `servers` ("address" or "address:port"); none: the system's own."""
    resolver = dns.resolver.Resolver(configure=not servers)
    if servers:
        hosts, ports = [], {}
        for server in servers:
            host, separator, port = server.rpartition(":")
            if separator and "]" not in server and host.count(":") == 0:
                hosts.append(host)
                ports[host] = int(port)
            else:
                hosts.append(server)
        resolver.nameservers = hosts
        resolver.nameserver_ports = ports
    resolver.timeout, resolver.lifetime = 3.0, 6.0
    return resolver


def look_up(resolver: dns.resolver.Resolver, name: str, kind: str) -> Lookup:
    """Return what `name` holds of `kind` ("TXT", "CNAME", "MX"); never raises for what DNS says.

    The strings of a TXT record are joined (RFC 7208 section 3.3); names end without a dot.
    """
    try:
        answer = resolver.resolve(name, kind, raise_on_no_answer=True, search=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return Lookup(problem="There is no such record yet.")
    except (dns.resolver.NoNameservers, dns.exception.Timeout):
        return Lookup(problem="The name servers did not answer.", is_temporary=True)
    except dns.exception.DNSException as error:
        return Lookup(problem=f"The name cannot be looked up: {error}.")
    return Lookup(values=tuple(_text(record) for record in answer))


def _text(record: object) -> str:
    strings = getattr(record, "strings", None)
    if strings is not None:
        return b"".join(strings).decode("utf-8", "replace")
    target = getattr(record, "target", None)
    if target is not None:
        return str(target).rstrip(".").lower()
    return str(record).rstrip(".")
