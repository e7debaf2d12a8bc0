"""Is an address's name in DNS what it says in EHLO, and does that name lead back to it?

Receivers want forward-confirmed reverse DNS: Gmail's sender guidelines demand a PTR record whose
name has an A or AAAA record with the same address (https://support.google.com/a/answer/81126);
RFC 1912 section 2.1 says the same of any host.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

import dns.resolver

from esp.lib.dns import look_up


@dataclass(frozen=True, slots=True)
class PtrFinding:
    """What is wrong, in words, or "". `is_temporary`: the name servers did not answer."""

    problem: str = ""
    is_temporary: bool = False


def inspect_ptr(address: str, ehlo_name: str, resolver: dns.resolver.Resolver) -> PtrFinding:
    """Look up `address` (PTR) and the name found (A or AAAA); never raises for what DNS says."""
    parsed = ipaddress.ip_address(address)
    reverse = look_up(resolver, parsed.reverse_pointer, "PTR")
    if reverse.is_temporary:
        return PtrFinding("The name servers for the address did not answer.", is_temporary=True)
    if not reverse.values:
        return PtrFinding(
            f"{address} has no PTR record. Ask whoever the address is from for {ehlo_name}."
        )
    if ehlo_name not in reverse.values:
        return PtrFinding(
            f"The PTR record of {address} says {', '.join(reverse.values)[:120]}, "
            f"the EHLO name is {ehlo_name}."
        )
    kind = "A" if parsed.version == 4 else "AAAA"
    forward = look_up(resolver, ehlo_name, kind)
    if forward.is_temporary:
        return PtrFinding(f"The name servers for {ehlo_name} did not answer.", is_temporary=True)
    if not any(_same(value, parsed) for value in forward.values):
        found = ", ".join(forward.values)[:120] or "no address"
        return PtrFinding(f"{ehlo_name} leads to {found}, not back to {address}.")
    return PtrFinding()


def _same(text: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return ipaddress.ip_address(text) == address
    except ValueError:
        return False
