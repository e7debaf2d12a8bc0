"""Pure checks before sending: each says in one sentence what is wrong and whether it blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from sending.content.guard import MAX_DEPTH_COMPILED, MarkupScanner
from sending.content.links import parse_check
from sending.content.types import CompiledContent

CLIP_LIMIT = 102 * 1024
"""Gmail shows the first 102 KB of a message and hides the rest, the unsubscribe link with it."""

Level = Literal["block", "warn"]


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the review: `sentence` says what was found, good or bad."""

    code: str
    ok: bool
    level: Level
    sentence: str


def check_content(
    compiled: CompiledContent, *, broadcast: bool, missing: Mapping[str, int] | None = None
) -> list[Check]:
    """Return every check, in the order in which a review shows them.

    `missing` says for each merge field without default how many recipients lack it; a field that
    `missing` does not name is taken to be lacking for an unknown number and blocks as well.
    `broadcast` content needs an unsubscribe link and a postal address.
    """
    return [
        _subject(compiled),
        _links(compiled),
        _merge_fields(compiled, missing),
        *_legal(compiled, broadcast=broadcast),
        _text_part(compiled),
        _clipping(compiled),
        _alt_texts(compiled),
        _plain_http(compiled),
    ]


def blocking(checks: list[Check]) -> list[Check]:
    """Return the checks that forbid sending."""
    return [check for check in checks if not check.ok and check.level == "block"]


def _subject(compiled: CompiledContent) -> Check:
    ok = bool(compiled.subject.strip())
    sentence = "The subject is set." if ok else "The subject is empty."
    return Check("subject", ok, "block", sentence)


def _links(compiled: CompiledContent) -> Check:
    problems = parse_check(compiled.links)
    if not problems:
        return Check("links", True, "block", f"All {len(compiled.links)} links can be read.")
    first = problems[0]
    more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
    sentence = f"'{first.link.url[:100]}' is not a working link: {first.sentence}{more}."
    return Check("links", False, "block", sentence)


def _merge_fields(compiled: CompiledContent, missing: Mapping[str, int] | None) -> Check:
    lacking = {
        name: None if missing is None or name not in missing else missing[name]
        for name in compiled.fields
    }
    open_fields = [name for name, count in lacking.items() if count != 0]
    if not open_fields:
        return Check("merge-fields", True, "block", "Every merge field has a value or a default.")
    parts = [
        f"'{name}'" if lacking[name] is None else f"'{name}' ({lacking[name]:,} lack it)"
        for name in open_fields
    ]
    sentence = f"These merge fields have no default: {', '.join(parts)}."
    return Check("merge-fields", False, "block", sentence)


def _legal(compiled: CompiledContent, *, broadcast: bool) -> Iterator[Check]:
    if not broadcast:
        return
    ok = compiled.has_unsubscribe
    sentence = "There is an unsubscribe link." if ok else "There is no unsubscribe link."
    yield Check("unsubscribe", ok, "block", sentence)
    ok = compiled.has_postal_address
    sentence = "The postal address is shown." if ok else "The postal address is missing."
    yield Check("postal-address", ok, "block", sentence)


def _text_part(compiled: CompiledContent) -> Check:
    ok = bool(compiled.text.strip())
    sentence = "There is a plain-text part." if ok else "The plain-text part is empty."
    return Check("text-part", ok, "warn", sentence)


def _clipping(compiled: CompiledContent) -> Check:
    size = len((compiled.html or "").encode())
    ok = size < CLIP_LIMIT
    shown = f"{size / 1024:.0f} KB"
    sentence = (
        f"The HTML part has {shown}."
        if ok
        else f"The HTML part has {shown}: Gmail cuts messages off at 102 KB."
    )
    return Check("size", ok, "warn", sentence)


def _alt_texts(compiled: CompiledContent) -> Check:
    bare = 0
    html = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "x", compiled.html or "", flags=re.DOTALL)
    for piece in MarkupScanner(html, max_depth=MAX_DEPTH_COMPILED, own=True).pieces():
        if piece.kind == "open" and piece.name == "img":
            bare += not any(name == "alt" for name, *_ in piece.attributes)
    noun = "image has" if bare == 1 else "images have"
    sentence = f"{bare} {noun} no alternative text." if bare else "Images have alternative texts."
    return Check("alt-text", bare == 0, "warn", sentence)


def _plain_http(compiled: CompiledContent) -> Check:
    plain = [link.url for link in compiled.links if link.url.lower().startswith("http:")]
    if not plain:
        return Check("https", True, "warn", "All links use https.")
    return Check("https", False, "warn", f"'{plain[0][:100]}' uses http; better use https.")
