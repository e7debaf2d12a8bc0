"""Addresses as they go over the wire: safe in a command, with the domain in ASCII."""

from __future__ import annotations

import re
from functools import lru_cache

import idna

# RFC 5321 section 4.5.3.1: 64 octets of local part, 255 of domain. Real servers accept longer local
# parts (VERP made them common), so only the command line's own limit of 512 octets binds.
_MAX_LOCAL_OCTETS = 200
_MAX_DOMAIN_OCTETS = 253

# Everything that could end the path or the command: space and controls, angle brackets. Quoted
# local parts with spaces are legal and not worth the risk.
_UNSAFE = re.compile(r"[\x00-\x20\x7f<>]")

# What nearly every address is: ASCII without anything that needs care, the domain in lower case.
_PLAIN = re.compile(
    rf"[!-;=?A-~]{{1,{_MAX_LOCAL_OCTETS}}}@(?=[^@]{{1,{_MAX_DOMAIN_OCTETS}}}\Z)"
    r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}"
).fullmatch


@lru_cache(maxsize=20_000)
def ascii_domain(domain: str) -> str:
    """Return `domain` in lower-case A-labels without the final dot (RFC 5890).

    Raises ValueError when it is no domain name: empty, too long, an address literal, bad labels.
    """
    domain = domain.strip().rstrip(".")
    if not domain or domain.startswith("[") or _UNSAFE.search(domain):
        raise ValueError("this is not a domain name")
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode("ascii")
        except idna.IDNAError as error:
            raise ValueError(f"this is not a domain name: {error}") from None
    if len(domain) > _MAX_DOMAIN_OCTETS or any(
        not 0 < len(label) <= 63 for label in domain.split(".")
    ):
        raise ValueError("a domain name has labels of 1 to 63 characters, 253 in all")
    return domain.lower()


def command_path(address: str) -> str:
    """Return `address` as MAIL FROM and RCPT TO take it, without the angle brackets.

    The domain becomes ASCII; a local part outside ASCII stays and needs SMTPUTF8 (RFC 6531).
    The empty address (a bounce's sender) stays empty. Raises ValueError when it cannot stand in a
    command (also as UnicodeEncodeError, for half a surrogate pair).
    """
    if not address or _PLAIN(address):
        return address
    local, separator, domain = address.rpartition("@")
    if not separator or not local:
        raise ValueError("the address has no local part or no domain")
    if _UNSAFE.search(address):
        raise ValueError("the address holds a space, a control character or an angle bracket")
    if len(local.encode("utf-8")) > _MAX_LOCAL_OCTETS:
        raise ValueError("the part before the @ is too long")
    return f"{local}@{ascii_domain(domain)}"
