"""Name the mailbox provider behind an MX host."""

from __future__ import annotations

from functools import lru_cache

from publicsuffixlist import PublicSuffixList

_suffixes = PublicSuffixList()


@lru_cache(maxsize=100_000)
def site_of(mx_host: str | None, domain: str) -> str:
    """Return the registrable domain of `mx_host`: who runs the server (google.com, yahoodns.net).

    Before a server was reached, the recipient's own `domain` stands in. At most 60 characters.
    """
    name = (mx_host or domain).rstrip(".").lower()
    return str(_suffixes.privatesuffix(name) or name)[:60]
