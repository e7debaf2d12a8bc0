"""Linear checks that stand before native and recursive code.

mrml and css-inline end the process on deep nesting (measured: 5,000 nested elements of 60 KB),
HTML parsers and the Liquid lexer go quadratic on crafted input. Nothing here does more than one
pass over the source. What a parser might understand differently from this scan (foreign content,
raw-text elements that no mail program shows) is refused, so that nothing can hide in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from sending.content.errors import ContentError

MAX_SOURCE = 512 * 1024
MAX_LIQUID_SOURCE = 256 * 1024
MAX_LIQUID_TAGS = 2_000
MAX_LIQUID_TAG_LENGTH = 2_000
MAX_PARENTHESES = 50
MAX_DEPTH_MJML = 64
MAX_DEPTH_HTML = 256
MAX_DEPTH_COMPILED = 1_000  # what mrml makes of 64 levels; css-inline was fine at 5,000
MAX_CSS_RULES = 500
MAX_ELEMENTS = 20_000
MAX_ATTRIBUTES = 100  # of one element; parsers look for doubles: 50,000 took 22 s
MAX_RULE_MATCHES = 1_000_000  # css-inline: 4,000,000 took 26 s
MAX_COPIES = 50_000_000  # bytes of CSS, or of an MJML head, times the elements they may go to

LIQUID_TAGS = frozenset(
    [
        "if",
        "elsif",
        "else",
        "endif",
        "unless",
        "endunless",
        "case",
        "when",
        "endcase",
        "for",
        "endfor",
        "break",
        "continue",
        "assign",
        "capture",
        "endcapture",
        "cycle",
        "comment",
        "endcomment",
        "echo",
        "#",
    ]
)
_LIQUID_OPEN = re.compile(r"\{\{|\{%")
_LIQUID_NAME = re.compile(r"-?\s*(#|\w+)")
_LONG_GAP = re.compile(r"\s{65}")


@dataclass(frozen=True, slots=True)
class LiquidTag:
    """One `{{ … }}` or `{% … %}` of a source: `name` is empty for an output."""

    start: int
    end: int
    name: str

    @property
    def is_block(self) -> bool:
        return bool(self.name)


def line_at(source: str, position: int) -> int:
    return source.count("\n", 0, position) + 1


def check_size(source: str) -> None:
    """Raise ContentError when a source is too large or holds characters no mail can carry."""
    if len(source) > MAX_SOURCE or len(source.encode("utf-8", "surrogatepass")) > MAX_SOURCE:
        raise ContentError(f"The content is larger than {MAX_SOURCE // 1024} KB.", code="too-large")
    position = source.find("\x00")
    if position >= 0:
        raise ContentError("The content holds a NUL character.", line=line_at(source, position))
    try:
        source.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ContentError(
            "The content holds half of a character pair (a lone surrogate).",
            line=line_at(source, error.start),
        ) from error


def scan_liquid(source: str) -> list[LiquidTag]:
    """Return the Liquid tags of `source` in order, in one pass.

    Raises ContentError for an unclosed or nested opening, a tag that is not allowed here, and for
    every limit; the lexer that comes after may then be as naive as it likes.
    """
    tags: list[LiquidTag] = []
    position = 0
    while match := _LIQUID_OPEN.search(source, position):
        start = match.start()
        closing = "}}" if match.group() == "{{" else "%}"
        end = source.find(closing, match.end())
        if end < 0:
            raise ContentError(
                f"'{match.group()}' is never closed by '{closing}'.", line=line_at(source, start)
            )
        inner = source[match.end() : end]
        tags.append(LiquidTag(start, end + 2, _checked_tag(source, start, inner, match.group())))
        if len(tags) > MAX_LIQUID_TAGS:
            raise ContentError(
                f"There are more than {MAX_LIQUID_TAGS:,} Liquid tags.", line=line_at(source, start)
            )
        position = end + 2
    if tags and len(source) > MAX_LIQUID_SOURCE:
        raise ContentError(
            f"Content with Liquid may have {MAX_LIQUID_SOURCE // 1024} KB.", code="too-large"
        )
    return tags


def _checked_tag(source: str, start: int, inner: str, opening: str) -> str:
    """Return the tag's name ("" for an output); raise ContentError when it breaks a rule."""
    problem = None
    name = ""
    if "{{" in inner or "{%" in inner:
        problem = f"'{opening}' is not closed before the next one opens."
    elif len(inner) > MAX_LIQUID_TAG_LENGTH:
        problem = f"a Liquid tag may have {MAX_LIQUID_TAG_LENGTH:,} characters."
    elif not inner.strip(" \t\r\n-"):
        problem = "this Liquid tag is empty."
    elif _LONG_GAP.search(inner):
        problem = "there are too many spaces inside this Liquid tag."
    elif inner.count("(") > MAX_PARENTHESES or inner.count("[") > MAX_PARENTHESES:
        problem = "there are too many brackets in this Liquid tag."
    elif opening == "{%":
        match = _LIQUID_NAME.match(inner)
        name = match.group(1) if match else ""
        if name not in LIQUID_TAGS:
            problem = f"the Liquid tag '{name or inner.strip()[:20]}' is not available here."
    if problem:
        raise ContentError(problem[0].upper() + problem[1:], line=line_at(source, start))
    return name


# --- markup ---

VOID = frozenset(
    [
        "area",
        "base",
        "basefont",
        "bgsound",
        "br",
        "col",
        "embed",
        "frame",
        "hr",
        "img",
        "input",
        "keygen",
        "link",
        "meta",
        "param",
        "source",
        "track",
        "wbr",
    ]
)
# mrml lets these four nest
_NOT_VOID_IN_MJML = frozenset({"basefont", "bgsound", "frame", "keygen"})
RAW_TEXT = frozenset({"style", "script", "title", "textarea"})
REFUSED = frozenset(
    [
        "svg",
        "math",
        "template",
        "xmp",
        "plaintext",
        "iframe",
        "noembed",
        "noframes",
        "frameset",
        "noscript",
        "object",
        "applet",
        "marquee",
        "select",
        "script",
        "listing",
        "image",
    ]
)
# An element left open is closed by the parser when one of these follows: it adds no depth.
_CLOSED_BY = {
    "p": frozenset({"p"}),
    "li": frozenset({"li", "p"}),
    "dd": frozenset({"dd", "dt"}),
    "dt": frozenset({"dd", "dt"}),
    "td": frozenset({"td", "th"}),
    "th": frozenset({"td", "th"}),
    "tr": frozenset({"td", "th", "tr"}),
    "tbody": frozenset({"td", "th", "tr", "tbody", "thead", "tfoot"}),
    "tfoot": frozenset({"td", "th", "tr", "tbody", "thead"}),
}
_FORMATTING = frozenset(
    [
        "a",
        "b",
        "big",
        "code",
        "em",
        "font",
        "i",
        "nobr",
        "s",
        "small",
        "span",
        "strike",
        "strong",
        "tt",
        "u",
        "sub",
        "sup",
        "label",
        "q",
        "abbr",
        "cite",
    ]
)
TABLE_CONTEXT = frozenset({"table", "tbody", "thead", "tfoot", "tr", "colgroup"})
_BARRIERS = frozenset({"table", "td", "th", "caption", "button"})

_MARKUP = re.compile(r"<(?:(!--)|(/?)([a-zA-Z][^\s/>]*)|([!?/]))")
_SPACE = re.compile(r"[\s/]*")
_ATTRIBUTE = re.compile(r"[^\s/>][^\s/>=]*")
_EQUALS = re.compile(r"\s*=\s*")
_UNQUOTED = re.compile(r"[^\s>]*")


@dataclass(slots=True)
class Piece:
    """A stretch of markup: `kind` is text, raw (inside style, title…), comment, open or close.

    `parent` is the innermost open element around a text or comment.

    `attributes` holds (name, start and end of the name, start and end of the value) of an open
    tag; a value of an attribute without one is (-1, -1).
    """

    kind: str
    start: int
    end: int
    name: str = ""
    parent: str = ""
    attributes: list[tuple[str, int, int, int, int]] = field(default_factory=list)


class MarkupScanner:
    """One linear pass over HTML or MJML that counts depth, elements and CSS rules.

    `pieces()` yields the stretches of the source as the HTML tokenizer would cut them (WHATWG HTML
    section 13.2.5), and raises ContentError at the first limit.
    """

    def __init__(self, source: str, *, max_depth: int, mjml: bool = False, own: bool = False):
        self.source = source
        self.max_depth = max_depth
        self.mjml = mjml
        self.own = own  # made by our own compiler from a checked source
        self.stack: list[str] = []
        self.elements = 0
        self.selectors = 0
        self.rules = 0
        self.css_length = 0

    def fail(self, message: str, position: int) -> ContentError:
        # a line of our own output would mean nothing to the author
        line = None if self.own else line_at(self.source, position)
        return ContentError(message, line=line)

    def pieces(self) -> Iterator[Piece]:
        position = 0
        while match := _MARKUP.search(self.source, position):
            if match.start() > position:
                yield self._text("text", position, match.start())
            piece = self._piece(match)
            yield piece
            position = piece.end
            raw = self._raw_text(piece)
            if raw is not None:
                yield raw
                position = raw.end
        if position < len(self.source):
            yield self._text("text", position, len(self.source))
        self._check_copies()

    def _text(self, kind: str, start: int, end: int) -> Piece:
        return Piece(kind, start, end, parent=self.stack[-1] if self.stack else "")

    def _check_copies(self) -> None:
        """Refuse what would grow to gigabytes when it is copied onto every element."""
        if self.selectors * self.elements > MAX_RULE_MATCHES:
            raise self.fail("There are too many CSS rules for a page of this length.", 0)
        head = self.source.find("<mj-body") if self.mjml else 0
        if max(self.css_length, head) * self.elements > MAX_COPIES:
            raise self.fail("There is too much CSS for a page of this length.", 0)

    def _piece(self, match: re.Match[str]) -> Piece:
        start = match.start()
        if match.group(1):
            return self._comment(start)
        if match.group(4):
            end = self.source.find(">", start)
            return Piece("comment", start, len(self.source) if end < 0 else end + 1)
        name = match.group(3).lower()
        attributes, end, closed = self._attributes(match.end())
        if match.group(2):
            self._close(name)
            return Piece("close", start, end, name)
        self._open(name, start, self_closed=closed)
        return Piece("open", start, end, name, attributes=attributes)

    def _comment(self, start: int) -> Piece:
        if self.source.startswith((">", "->"), start + 4):
            raise self.fail("This comment has no content.", start)
        end = self.source.find("-->", start + 4)
        if end < 0:
            raise self.fail("This comment is never closed by '-->'.", start)
        bang = self.source.find("--!>", start + 4, end)
        if bang >= 0:
            raise self.fail("A comment ends with '-->', not with '--!>'.", bang)
        return self._text("comment", start, end + 3)

    def _attributes(self, position: int) -> tuple[list[tuple[str, int, int, int, int]], int, bool]:
        """Return the attributes, the end of the tag, and whether it ends with '/>'."""
        source = self.source
        found: list[tuple[str, int, int, int, int]] = []
        while True:
            space = _SPACE.match(source, position)
            assert space is not None
            position = space.end()
            if position >= len(source):
                raise self.fail("This tag is never closed by '>'.", position)
            if source[position] == ">":
                return found, position + 1, source[position - 1] == "/"
            if len(found) >= MAX_ATTRIBUTES:
                raise self.fail(f"This tag has more than {MAX_ATTRIBUTES} attributes.", position)
            name = _ATTRIBUTE.match(source, position)
            assert name is not None
            equals = _EQUALS.match(source, name.end())
            if equals is None:
                found.append((name.group().lower(), name.start(), name.end(), -1, -1))
                position = name.end()
                continue
            start, end, position = self._value(equals.end())
            found.append((name.group().lower(), name.start(), name.end(), start, end))

    def _value(self, position: int) -> tuple[int, int, int]:
        quote = self.source[position : position + 1]
        if quote in ('"', "'") and quote:
            end = self.source.find(quote, position + 1)
            if end < 0:
                raise self.fail("This attribute's value is never closed.", position)
            return position + 1, end, end + 1
        match = _UNQUOTED.match(self.source, position)
        assert match is not None
        return match.start(), match.end(), match.end()

    def _open(self, name: str, start: int, *, self_closed: bool) -> None:
        self.elements += 1
        if self.elements > MAX_ELEMENTS:
            raise self.fail(f"There are more than {MAX_ELEMENTS:,} elements.", start)
        if name in REFUSED and not self.own:
            raise self.fail(f"Mail programs do not show <{name}>: leave it out.", start)
        if self.mjml and (self_closed or name in VOID - _NOT_VOID_IN_MJML):
            return
        if name in VOID and not self.mjml:
            return
        if not self.mjml:  # mrml reads XML: what is left open there nests
            closes = _CLOSED_BY.get(name, frozenset())
            while self.stack and self.stack[-1] in closes:
                self.stack.pop()
        self.stack.append(name)
        if len(self.stack) > self.max_depth:
            raise self.fail(f"Elements are nested more than {self.max_depth} deep.", start)

    def _close(self, name: str) -> None:
        """Pop only what every HTML parser would pop, so that depth is never guessed too low."""
        for index in range(len(self.stack) - 1, -1, -1):
            entry = self.stack[index]
            if entry == name:
                del self.stack[index:]
                return
            if self._stops(entry, name):
                return

    @staticmethod
    def _stops(entry: str, name: str) -> bool:
        if name in TABLE_CONTEXT or name in ("td", "th", "caption"):
            return entry == "table"
        if name in _FORMATTING:
            return entry not in _FORMATTING
        return entry in _BARRIERS

    def _raw_text(self, opened: Piece) -> Piece | None:
        """Return the text inside style, title or textarea, which no parser reads as tags."""
        name = opened.name
        if opened.kind != "open" or name not in RAW_TEXT | {"mj-style"}:
            return None
        if self.mjml and self.source[opened.end - 2] == "/":
            return None
        closing = re.compile(rf"</{name}[\s/>]", re.IGNORECASE).search(self.source, opened.end)
        if closing is None:
            raise self.fail(f"<{name}> is never closed.", opened.start)
        text = self.source[opened.end : closing.start()]
        if name in ("style", "mj-style"):
            self._count_rules(text, opened.start)
        if self.mjml and name != "mj-style" and "<" in text:
            raise self.fail(f"<{name}> holds text alone.", opened.start)
        if self.mjml and text.count("<") > MAX_DEPTH_MJML:
            raise self.fail(f"<{name}> holds too many '<'.", opened.start)
        return self._text("raw", opened.end, closing.start())

    def _count_rules(self, css: str, position: int) -> None:
        if css.count("{") - css.count("}") > MAX_DEPTH_MJML:
            raise self.fail("CSS blocks are nested too deep.", position)
        self.css_length += len(css)
        rules = css.count("{")
        self.rules += rules
        self.selectors += rules + css.count(",")
        if self.rules > MAX_CSS_RULES and not self.own:
            raise self.fail(f"There are more than {MAX_CSS_RULES} CSS rules.", position)


def check_markup(source: str, *, max_depth: int, mjml: bool = False, own: bool = False) -> None:
    """Raise ContentError when `source` (without Liquid) is too deep or too large to parse."""
    for _ in MarkupScanner(source, max_depth=max_depth, mjml=mjml, own=own).pieces():
        pass
