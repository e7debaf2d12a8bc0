"""Links of the HTML part: found, checked, and replaced by `{% tracked_link N %}`.

The replacement is a Liquid tag that authors cannot write and values are never parsed for, so
nobody but the compiler can make one.
"""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass, field

from selectolax.lexbor import LexborHTMLParser, LexborNode

from sending.content.errors import ContentError
from sending.content.merge_fields import local_names, names_used
from sending.content.protect import Protected
from sending.content.types import Link

_SCHEME = re.compile(r"^[\x00-\x20]*([a-zA-Z][a-zA-Z0-9+.\-]*)\s*:")
_UNSEEN = re.compile(r"[\x00-\x20]+")
_PLAIN_SCHEMES = frozenset({"mailto", "tel", "sms", "cid"})
_LIQUID = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_OWN_VARIABLES = frozenset({"unsubscribe_url", "preferences_url", "view_url"})
_HOST = re.compile(r"^[a-zA-Z0-9_]([a-zA-Z0-9_.\-]*[a-zA-Z0-9_])?\.?$")
MAX_URL = 2_000


@dataclass(slots=True)
class FoundLinks:
    links: list[Link] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def mark_links(tree: LexborHTMLParser, protected: Protected) -> FoundLinks:
    """Replace each trackable `a[href]` and `area[href]` by a placeholder for its link tag.

    Left as they are: mailto, tel, anchors, the product's own URLs, and links whose Liquid uses a
    name that the template itself sets (a loop's variable is not known when the link is clicked).
    Equal URLs share a link only when they are the same place: each `a` is a link of its own.
    Raises ContentError for javascript:, data: and other schemes.
    """
    found = FoundLinks()
    local = local_names(protected.source)
    for node in tree.css("a[href], area[href]"):
        href = (node.attributes.get("href") or "").strip()
        url = protected.restore_plain(href)
        if is_trackable(url) and not _uses_local(url, local, found):
            index = len(found.links)
            found.links.append(Link(index, url))
            _set_href(node, protected.add(f"{{% tracked_link {index} %}}"))
    return found


def _set_href(node: LexborNode, value: str) -> None:
    node.attrs["href"] = value


def _uses_local(url: str, local: set[str], found: FoundLinks) -> bool:
    if "{" not in url:
        return False
    names = names_used(url)
    if names & local:
        found.warnings.append(f"Clicks on {url[:80]} are not counted: it uses a loop's variable.")
        return True
    return False


def is_trackable(url: str) -> bool:
    """Return whether `url` (may hold Liquid) is a web link to count clicks on.

    Raises ContentError for a scheme that must not stand in a mail.
    """
    if not url or url.startswith("#"):
        return False
    bare = _UNSEEN.sub("", _LIQUID.sub("", url))
    match = _SCHEME.match(bare)
    scheme = match.group(1).lower() if match else ""
    if scheme in ("http", "https"):
        return True
    if scheme in _PLAIN_SCHEMES:
        return False
    if scheme and not _is_port(bare):
        raise ContentError(
            f"A link begins with '{scheme}:', which mail programs block and we refuse. "
            "Use https:, mailto: or tel:.",
            code="link-scheme",
        )
    if url.lstrip().startswith(("{{", "{%")):
        return not names_used(url) & _OWN_VARIABLES
    return False


def _is_port(url: str) -> bool:
    """Return whether the colon belongs to a port, as in "example.com:8080/x"."""
    return bool(re.match(r"^[a-zA-Z0-9.\-]+\.[a-zA-Z]+:\d+(/|$)", url))


def link_problem(url: str) -> str | None:
    """Return what is wrong with a URL (may hold Liquid) as a sentence, or None."""
    if not url.strip():
        return "the link is empty"
    if len(url) > MAX_URL:
        return f"the link has more than {MAX_URL:,} characters"
    starts_with_liquid = url.lstrip().startswith(("{{", "{%"))
    bare = _LIQUID.sub("x", url).strip()
    if re.search(r"[\x00-\x20\x7f<>\"]", bare):
        return "the link holds spaces or characters that no URL may hold"
    if starts_with_liquid:
        return None
    try:
        parts = urllib.parse.urlsplit(bare)
        port_known = parts.port is None or parts.port > 0
    except ValueError:
        return "the link cannot be read as a URL"
    if parts.scheme.lower() in _PLAIN_SCHEMES:
        return None
    if parts.scheme.lower() not in ("http", "https"):
        return "the link does not begin with https://"
    host = parts.hostname or ""
    if not port_known or not _is_host(host):
        return "the link has no valid host name"
    return None


def _is_host(host: str) -> bool:
    if not host:
        return False
    if ":" in host:
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            return False
        return True
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            return False
    return bool(_HOST.match(host)) and ".." not in host


@dataclass(frozen=True, slots=True)
class LinkProblem:
    link: Link
    sentence: str


def parse_check(links: Sequence[Link]) -> list[LinkProblem]:
    """Return the links that do not parse, each with the reason."""
    problems = ((link, link_problem(link.url)) for link in links)
    return [LinkProblem(link, sentence) for link, sentence in problems if sentence]
