"""Carries Liquid unharmed through parsers that know HTML, MJML or CSS alone.

Each Liquid tag becomes a word (in text, attribute values and CSS) or a comment (a `{% … %}` between
elements: HTML parsers move loose text out of tables, but leave comments where they are). After the
parsers the tags are put back, and it is checked that each is still there, in its order.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

from sending.content.errors import ContentError
from sending.content.guard import (
    MAX_DEPTH_HTML,
    MAX_DEPTH_MJML,
    TABLE_CONTEXT,
    LiquidTag,
    MarkupScanner,
    Piece,
    line_at,
    scan_liquid,
)


@dataclass(slots=True)
class Protected:
    """A source whose Liquid tags have become placeholders, and what they stand for."""

    text: str
    source: str
    nonce: str
    tags: list[LiquidTag]
    extra: list[str] = field(default_factory=list)

    @property
    def word(self) -> re.Pattern[str]:
        """Matches a placeholder word; group 1 is its number."""
        return re.compile(rf"{self.nonce}x(\d+)z")

    def liquid(self, number: int) -> str:
        if number >= len(self.tags):
            return self.extra[number - len(self.tags)]
        tag = self.tags[number]
        return self.source[tag.start : tag.end]

    def add(self, liquid: str) -> str:
        """Return a placeholder word for Liquid that the compiler itself puts in."""
        self.extra.append(liquid)
        return f"{self.nonce}x{len(self.tags) + len(self.extra) - 1}z"

    def restore(self, text: str) -> str:
        """Return `text` with the Liquid put back."""
        pattern = re.compile(
            rf"<!--{self.nonce}x(\d+)z-->|--{self.nonce}x(\d+)z:\s*0(?=[\s;\"'&]|$)"
            rf"|{self.nonce}x(\d+)z"
        )
        return pattern.sub(lambda match: self.liquid(int(match[match.lastindex or 0])), text)

    def restore_plain(self, text: str) -> str:
        """Return a plain text or URL with the Liquid put back."""
        return self.word.sub(lambda match: self.liquid(int(match[1])), text)

    def check_complete(self, html: str) -> None:
        """Raise ContentError when a parser dropped, moved or doubled a Liquid tag."""
        seen = [int(number) for number in self.word.findall(html)]
        blocks = [n for n in seen if n < len(self.tags) and self.tags[n].is_block]
        expected = [n for n, tag in enumerate(self.tags) if tag.is_block]
        if blocks != expected:
            first = next(
                (want for want, got in zip(expected, [*blocks, -1], strict=False) if want != got),
                expected[-1] if expected else 0,
            )
            raise self._lost(first)
        outputs = set(seen)
        for number, tag in enumerate(self.tags):
            if not tag.is_block and number not in outputs:
                raise self._lost(number)

    def _lost(self, number: int) -> ContentError:
        return ContentError(
            f"{self.liquid(number)} stands where HTML cannot keep it. Put Liquid between elements,"
            " in text or inside an attribute's value.",
            line=line_at(self.source, self.tags[number].start),
            code="liquid-place",
        )


def _words(source: str, tags: list[LiquidTag], nonce: str) -> str:
    parts: list[str] = []
    position = 0
    for number, tag in enumerate(tags):
        parts += [source[position : tag.start], f"{nonce}x{number}z"]
        position = tag.end
    parts.append(source[position:])
    return "".join(parts)


def _nonce(source: str) -> str:
    nonce = "mw" + hashlib.blake2b(source.encode(), digest_size=6).hexdigest()
    while nonce in source.lower():
        nonce = "mw" + hashlib.blake2b(nonce.encode(), digest_size=6).hexdigest()
    return nonce


def protect(source: str, *, mjml: bool) -> Protected:
    """Return `source` with placeholders; runs every guard on the way and raises ContentError."""
    tags = scan_liquid(source)
    nonce = _nonce(source)
    result = Protected(_words(source, tags, nonce), source, nonce, tags)
    depth = MAX_DEPTH_MJML if mjml else MAX_DEPTH_HTML
    scanner = MarkupScanner(result.text, max_depth=depth, mjml=mjml)
    result.text = "".join(_settle(result, piece, mjml=mjml) for piece in scanner.pieces())
    return result


def _settle(protected: Protected, piece: Piece, *, mjml: bool) -> str:
    """Return the piece with each placeholder in the form that survives at its place."""
    text = protected.text[piece.start : piece.end]
    if mjml and piece.kind == "text":
        # mrml panics on a text that begins outside ASCII and holds a bare ">"
        text = text.replace(">", "&gt;")
    if protected.nonce not in text:
        return text
    if piece.kind == "text":
        return protected.word.sub(lambda match: _in_text(protected, match, piece), text)
    if piece.kind in ("open", "close"):
        _refuse_loose(protected, piece, text)
        return _settle_styles(protected, piece, text) if piece.kind == "open" else text
    return text


def _in_text(protected: Protected, match: re.Match[str], piece: Piece) -> str:
    tag = protected.tags[int(match[1])]
    return f"<!--{match[0]}-->" if tag.is_block or piece.parent in TABLE_CONTEXT else match[0]


def _refuse_loose(protected: Protected, piece: Piece, text: str) -> None:
    """Raise when Liquid stands in a tag but outside an attribute's value."""
    base = piece.start
    for match in protected.word.finditer(text):
        position = base + match.start()
        inside = any(start <= position < end for *_, start, end in piece.attributes)
        if not inside:
            tag = protected.tags[int(match[1])]
            raise ContentError(
                "Liquid cannot stand between the attributes of a tag: put it inside a value, "
                'as in class="{% if x %}a{% endif %}".',
                line=line_at(protected.source, tag.start),
                code="liquid-place",
            )


def _settle_styles(protected: Protected, piece: Piece, text: str) -> str:
    """Turn Liquid that stands for a whole declaration into a declaration, which CSS can read."""
    for name, _, _, start, end in reversed(piece.attributes):
        if name != "style":
            continue
        value = text[start - piece.start : end - piece.start]
        lone = rf"(^|;)(\s*)({protected.nonce}x\d+z)(?=\s*(?:;|$))"
        value = re.sub(lone, r"\1\2--\3:0", value)
        text = text[: start - piece.start] + value + text[end - piece.start :]
    return text


def with_table_bodies(protected: Protected, html: str, *, max_depth: int) -> str:
    """Return `html` (guarded on the way) with `<tbody>` before Liquid that stands before rows.

    The parser would put it after the Liquid, that is, inside a loop: once for every row.
    """
    pieces = list(MarkupScanner(html, max_depth=max_depth, own=True).pieces())
    if not any(piece.name in ("html", "head", "body") for piece in pieces):
        # or the parser puts Liquid that comes first in front of the whole document
        return with_table_bodies(
            protected,
            f"<!DOCTYPE html><html><head></head><body>{html}</body></html>",
            max_depth=max_depth + 2,
        )
    parts: list[str] = []
    last_tag: Piece | None = None
    for index, piece in enumerate(pieces):
        text = html[piece.start : piece.end]
        if (
            piece.kind == "comment"
            and piece.parent == "table"
            and protected.nonce in text
            and last_tag is not None
            and _begins_rows(last_tag)
            and _next_tag(pieces, index) == "tr"
        ):
            parts.append("<tbody>")
            last_tag = None
        if piece.kind in ("open", "close"):
            last_tag = piece
        parts.append(text)
    return "".join(parts)


def _begins_rows(tag: Piece) -> bool:
    if tag.kind == "open":
        return tag.name == "table"
    return tag.name in ("caption", "colgroup", "thead")


def _next_tag(pieces: list[Piece], index: int) -> str:
    for piece in pieces[index : index + 50]:
        if piece.kind in ("open", "close"):
            return piece.name if piece.kind == "open" else ""
    return ""
