"""From what a person wrote to what is filled per recipient; done once a version, in a worker.

guard → Liquid to placeholders → MJML → CSS → links → text part → preheader, footer → Liquid back.
"""

from __future__ import annotations

import html as html_entities
import re
from dataclasses import dataclass

from selectolax.lexbor import LexborHTMLParser

from sending.content.errors import ContentError
from sending.content.guard import (
    MAX_DEPTH_COMPILED,
    MarkupScanner,
    Piece,
    check_size,
    scan_liquid,
)
from sending.content.inline import inline_css
from sending.content.links import FoundLinks, mark_links
from sending.content.liquid import check_syntax, compile_template
from sending.content.merge_fields import fields_used, names_used
from sending.content.mjml import SOCIAL_ICON_ORIGIN, mjml_to_html
from sending.content.plaintext import html_to_text
from sending.content.protect import Protected, protect, with_table_bodies
from sending.content.types import CompiledContent, ContentSource

MAX_SUBJECT = 998
MAX_COMPILED = 480 * 1024  # rendering stops at 512 KB
_HIDDEN = (
    "display:none;font-size:1px;line-height:1px;max-height:0;max-width:0;opacity:0;"
    "overflow:hidden;mso-hide:all"
)
_FOOTER_STYLE = (
    "padding:24px 16px;text-align:center;font-family:Helvetica,Arial,sans-serif;font-size:12px;"
    "line-height:18px;color:#6b7280"
)
_ADDRESS_HTML = "{{ postal_address | newline_to_br }}"
_UNSUBSCRIBE_HTML = (
    '<a href="{{ unsubscribe_url }}" style="color:#6b7280">Unsubscribe</a>'
    '{% if preferences_url != "" %} · '
    '<a href="{{ preferences_url }}" style="color:#6b7280">Preferences</a>{% endif %}'
)
_UNSUBSCRIBE_TEXT = (
    'Unsubscribe: {{ unsubscribe_url }}{% if preferences_url != "" %}\n'
    "Preferences: {{ preferences_url }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class _Footer:
    """Which parts of the standard footer a part of the content still needs."""

    unsubscribe: bool
    address: bool

    @property
    def html(self) -> str:
        lines = [_ADDRESS_HTML] * self.address + [_UNSUBSCRIBE_HTML] * self.unsubscribe
        return f'<div style="{_FOOTER_STYLE}">{"<br>".join(lines)}</div>' if lines else ""

    @property
    def text(self) -> str:
        lines = ["{{ postal_address }}"] * self.address + [_UNSUBSCRIBE_TEXT] * self.unsubscribe
        return "\n-- \n" + "\n".join(lines) + "\n" if lines else ""


def compile_content(
    source: ContentSource, *, footer: bool, social_icon_origin: str = SOCIAL_ICON_ORIGIN
) -> CompiledContent:
    """Return the compiled form of `source`; raises ContentError with a plain sentence.

    With `footer` (broadcast mail) the unsubscribe link and the postal address are appended where
    the content does not name `unsubscribe_url` or `postal_address` itself.
    """
    _check_parts(source)
    found = FoundLinks()
    html = None
    if source.kind == "text":
        text = source.body
    else:
        html, text, found = _compile_html(source, footer, social_icon_origin)
    if source.text_body is not None and source.kind != "text":
        text = source.text_body
    text += _missing(text, footer).text
    compiled = CompiledContent(
        subject=source.subject.strip(),
        preheader=source.preview_text.strip(),
        html=html,
        text=text,
        links=tuple(found.links),
        fields=_fields_without_default(source),
        has_unsubscribe=_shows(source, text, footer, "unsubscribe_url"),
        has_postal_address=_shows(source, text, footer, "postal_address"),
        warnings=tuple(found.warnings),
    )
    _check_result(compiled)
    return compiled


def _check_parts(source: ContentSource) -> None:
    parts = {
        "subject": source.subject,
        "preview_text": source.preview_text,
        "body": source.body,
        "text_body": source.text_body or "",
    }
    for field, part in parts.items():
        try:
            check_size(part)
        except ContentError as error:
            error.field = field
            raise
        check_syntax(part, field=field)
    if len(source.subject) > MAX_SUBJECT or len(source.preview_text) > MAX_SUBJECT:
        raise ContentError(
            f"Subject and preview text may have {MAX_SUBJECT} characters.", code="too-large"
        )


def _compile_html(
    source: ContentSource, footer: bool, social_icon_origin: str
) -> tuple[str, str, FoundLinks]:
    """Return the finished HTML and text sources, and the links."""
    try:
        protected = protect(source.body, mjml=source.kind == "mjml")
        html = protected.text
        if source.kind == "mjml":
            html = mjml_to_html(html, social_icon_origin=social_icon_origin)
        html = with_table_bodies(protected, html, max_depth=MAX_DEPTH_COMPILED)
        html = inline_css(html)
        if len(html) > MAX_COMPILED:
            raise ContentError(
                f"With its CSS inlined the page is larger than {MAX_COMPILED // 1024} KB.",
                code="too-large",
            )
        protected.check_complete(html)
        tree = LexborHTMLParser(html)
        found = mark_links(tree, protected)
        text = _text_part(tree, protected, html)
        html = _neutral(tree.html or "", protected, "&#123;")
    except ContentError as error:
        error.field = "body"
        raise
    html = _insert(html, _preheader(source.preview_text), _missing(source.body, footer).html)
    return protected.restore(html), text, found


def _text_part(tree: LexborHTMLParser, protected: Protected, html: str) -> str:
    word = protected.word

    def block_word(comment: str) -> str | None:
        return comment if word.fullmatch(comment) else None

    before, after = _blocks_outside_body(html, protected)
    text = before + html_to_text(tree, block_word=block_word) + after
    text = _neutral(text, protected, "{ ")
    text = protected.restore_plain(text)
    try:
        compile_template(text, html=False)
    except ContentError as error:
        raise ContentError(
            "No plain-text part can be made, because a Liquid block begins in a hidden place and "
            "ends in a visible one. Write the plain-text part yourself.",
            code="text-part",
        ) from error
    return text


def _blocks_outside_body(html: str, protected: Protected) -> tuple[str, str]:
    """Return the placeholders of Liquid blocks before and after the body, such as assignments."""
    found: tuple[list[str], list[str]] = ([], [])
    side: int | None = 0
    if not any(tag.is_block for tag in protected.tags):
        return "", ""
    for piece in MarkupScanner(html, max_depth=MAX_DEPTH_COMPILED, own=True).pieces():
        if piece.name == "body":
            side = None if piece.kind == "open" else 1
        if piece.kind == "comment" and side is not None:
            word = html[piece.start + 4 : piece.end - 3]
            if protected.word.fullmatch(word):
                found[side].append(word)
    return "".join(found[0]), "".join(found[1])


def _neutral(text: str, protected: Protected, brace: str) -> str:
    """Keep braces that came out of HTML entities (`&#123;`) from becoming Liquid unseen."""
    return re.sub(rf"\{{(?=[{{%]|(?:<!--)?{protected.nonce})", brace, text)


def _preheader(preview: str) -> str:
    if not preview.strip():
        return ""
    parts: list[str] = []
    position = 0
    for tag in scan_liquid(preview):
        parts += [html_entities.escape(preview[position : tag.start]), preview[tag.start : tag.end]]
        position = tag.end
    parts.append(html_entities.escape(preview[position:]))
    # the blanks keep the mail program from showing the body's first words after the preview
    return f'<div style="{_HIDDEN}">{"".join(parts)}{"&#847;&zwnj;&nbsp;" * 40}</div>'


def _insert(html: str, first: str, last: str) -> str:
    """Put `first` at the start of the body and `last` at its end."""
    opened: Piece | None = None
    closed: Piece | None = None
    for piece in MarkupScanner(html, max_depth=MAX_DEPTH_COMPILED, own=True).pieces():
        if piece.name == "body" and piece.kind == "open":
            opened = opened or piece
        elif piece.name == "body" and piece.kind == "close":
            closed = piece
    assert opened is not None
    end = closed.start if closed else len(html)
    has_doctype = "<!doctype" in html[: opened.start].lower()
    head = html if has_doctype else f"<!DOCTYPE html>{html}"
    shift = len(head) - len(html)
    start, end = opened.end + shift, end + shift
    return f"{head[:start]}{first}{head[start:end]}{last}{head[end:]}"


def _missing(source: str, footer: bool) -> _Footer:
    if not footer:
        return _Footer(unsubscribe=False, address=False)
    names = names_used(_without_link_tags(source))
    return _Footer(
        unsubscribe="unsubscribe_url" not in names, address="postal_address" not in names
    )


def _without_link_tags(source: str) -> str:
    return re.sub(r"\{% tracked_link \d+ %\}", "", source)


def _shows(source: ContentSource, text: str, footer: bool, name: str) -> bool:
    """Return whether every part of the finished content shows the variable `name`."""
    if footer:
        return True
    in_html = source.kind == "text" or name in names_used(source.body)
    return in_html and name in names_used(_without_link_tags(text))


def _fields_without_default(source: ContentSource) -> tuple[str, ...]:
    merged: dict[str, bool] = {}
    for part in (source.subject, source.preview_text, source.body, source.text_body or ""):
        for name, has_default in fields_used(part).items():
            merged[name] = merged.get(name, True) and has_default
    return tuple(sorted(name for name, has_default in merged.items() if not has_default))


def _check_result(compiled: CompiledContent) -> None:
    """Parse what will be filled, so that a fault shows now and not at the first recipient."""
    if compiled.html is not None:
        compile_template(compiled.html, html=True)
    compile_template(compiled.text, html=False)
