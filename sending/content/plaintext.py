"""The plain-text part made from HTML: what a reader would see, top to bottom.

Hidden parts (preheader, styles, comments) are left out, links stand in brackets after their text,
images give their alt text, cells of a row are parted by spaces. Liquid placeholders pass through.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from selectolax.lexbor import LexborHTMLParser, LexborNode

_SKIPPED = frozenset({"head", "style", "script", "title", "noscript", "template", "map"})
_PARAGRAPH = frozenset(
    ["p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "blockquote", "pre", "table", "hr"]
)
_LINE = frozenset(
    [
        "div",
        "tr",
        "li",
        "section",
        "article",
        "header",
        "footer",
        "center",
        "dt",
        "dd",
        "address",
        "form",
    ]
)
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden|mso-hide\s*:\s*all", re.I)
_WHITE = re.compile(r"[ \t\r\n\f]+")
_INVISIBLE = re.compile("[\u200b\u200c\u200d\u2060\ufeff\u00ad\u034f\u2007]")
_BREAK, _GAP, _CELL = "\n", "\n\n", "  "

BlockWord = Callable[[str], str | None]


class _Writer:
    def __init__(self) -> None:
        self.parts: list[str] = []
        self.pre = 0

    def text(self, value: str) -> None:
        value = _INVISIBLE.sub("", value).replace("\u00a0", " ")
        self.parts.append(value if self.pre else _WHITE.sub(" ", value))

    def mark(self, value: str) -> None:
        self.parts.append(value)

    def line(self) -> None:
        """Begin a new line, unless one has just begun."""
        if not self.parts or not self.parts[-1].endswith("\n"):
            self.parts.append(_BREAK)

    def result(self) -> str:
        text = "".join(self.parts)
        text = re.sub(r"[ \t]+", " ", text)  # first: the next two stay linear on single spaces
        text = text.replace(" \n", "\n").replace("\n ", "\n")
        return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


class _Walker:
    """Walks without recursion: depth is guarded, but Python's own limit is lower than ours."""

    def __init__(self, block_word: BlockWord) -> None:
        self.out = _Writer()
        self.block_word = block_word
        self.numbers: list[int | None] = []

    def walk(self, root: LexborNode) -> str:
        stack: list[tuple[LexborNode, bool]] = [(root, False)]
        while stack:
            node, leaving = stack.pop()
            if leaving:
                self.leave(node)
            elif self.enter(node):
                stack.append((node, True))
                children = list(node.iter(include_text=True, skip_empty=False))
                stack.extend((child, False) for child in reversed(children))
        return self.out.result()

    def enter(self, node: LexborNode) -> bool:
        """Write what stands before the children; return whether to go into them."""
        tag = node.tag or ""
        if tag == "-text":
            self.out.text(node.text_content or "")
            return False
        if tag == "-comment":
            word = self.block_word(node.comment_content or "")
            if word:
                self.out.mark(word)
            return False
        attributes = node.attributes
        if tag in _SKIPPED or _HIDDEN.search(attributes.get("style") or ""):
            return False
        return self.enter_element(tag, node)

    def enter_element(self, tag: str, node: LexborNode) -> bool:
        if tag == "br":
            self.out.mark(_BREAK)
            return False
        if tag == "img":
            self.out.text(node.attributes.get("alt") or "")
            return False
        if tag == "hr":
            self.out.mark(f"{_GAP}---{_GAP}")
            return False
        self.before(tag)
        return True

    def before(self, tag: str) -> None:
        if tag in _PARAGRAPH:
            self.out.mark(_GAP)
        elif tag in _LINE:
            self.out.line()
        if tag in ("ul", "ol"):
            self.numbers.append(0 if tag == "ol" else None)
        elif tag == "li":
            self.out.mark(self.bullet())
        elif tag == "pre":
            self.out.pre += 1

    def bullet(self) -> str:
        if self.numbers and self.numbers[-1] is not None:
            self.numbers[-1] += 1
            return f"{self.numbers[-1]}. "
        return "* "

    def leave(self, node: LexborNode) -> None:
        tag = node.tag or ""
        if tag == "a":
            self.link(node)
        elif tag in ("td", "th"):
            self.out.mark(_CELL)
        elif tag in _PARAGRAPH:
            self.out.mark(_GAP)
        elif tag in _LINE:
            self.out.line()
        if tag in ("ul", "ol") and self.numbers:
            self.numbers.pop()
        elif tag == "pre":
            self.out.pre -= 1

    def link(self, node: LexborNode) -> None:
        href = (node.attributes.get("href") or "").strip()
        if not href or href.startswith("#"):
            return
        shown = (node.text(deep=True) or "").strip()
        target = href.removeprefix("mailto:").removeprefix("tel:")
        if shown != target:
            self.out.mark(f" ({target})")


def html_to_text(tree: LexborHTMLParser, *, block_word: BlockWord) -> str:
    """Return the readable text of a document, ending in one line break.

    `block_word` is given each comment's content and returns what to write for it (a placeholder
    for Liquid), or None to leave it out.
    """
    body = tree.body
    return _Walker(block_word).walk(body) if body is not None else "\n"
