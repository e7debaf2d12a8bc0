"""What a server said in EHLO that it can do (RFC 5321 section 4.1.1.1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# RFC 1870 section 3 allows 20 digits; Python raises for a number of some thousands.
_MOST_DIGITS = 20


@dataclass(frozen=True, slots=True)
class Features:
    """The extensions that a session uses; `max_size` is None where no limit is known."""

    pipelining: bool = False  # RFC 2920
    chunking: bool = False  # RFC 3030
    eight_bit: bool = False  # RFC 6152
    smtputf8: bool = False  # RFC 6531
    starttls: bool = False  # RFC 3207
    size: bool = False  # RFC 1870
    max_size: int | None = None
    auth: frozenset[str] = frozenset()  # RFC 4954: names of mechanisms


def read_features(lines: Iterable[str]) -> Features:
    """Read the lines of an EHLO reply after its first."""
    found: dict[str, str] = {}
    for line in lines:
        keyword, _, parameters = line.strip().partition(" ")
        found[keyword.upper()] = parameters.strip()
    limit = found.get("SIZE", "")
    is_number = limit.isascii() and limit.isdigit() and len(limit) <= _MOST_DIGITS
    return Features(
        pipelining="PIPELINING" in found,
        chunking="CHUNKING" in found,
        eight_bit="8BITMIME" in found,
        smtputf8="SMTPUTF8" in found,
        starttls="STARTTLS" in found,
        size="SIZE" in found,
        # RFC 1870 section 4: 0 stands for no fixed limit.
        max_size=(int(limit) or None) if is_number else None,
        auth=frozenset(found.get("AUTH", "").upper().split()),
    )
