"""Compiled content as it goes into a message: both texts in their transfer encoding.

Quoted-printable is written piece by piece while the template is filled (`quoted`). A text that is
mostly outside ASCII takes a third of the room in base64, which knows no pieces: it is filled as
text and encoded as a whole, at the speed of C.
"""

from __future__ import annotations

from dataclasses import dataclass

from sending.content.liquid import Template, compile_template
from sending.content.mime import base64_lines
from sending.content.quoted import Quoted, is_clean, one_newline, quote_constant
from sending.content.render import Renderer, tidy, variables_of
from sending.content.types import CompiledContent, RenderContext

_QUOTED = {html: Quoted(html=html) for html in (False, True)}
_GAP = "\r\n" * 3
_LARGER = 1.4  # quoted-printable may grow a text by this before base64 (1.37) is chosen
_SHORT = 200  # bytes of a text that is readable in the source rather than small


@dataclass(slots=True)
class Coded:
    """What one recipient gets: the subject as text, the parts encoded, with CRLF line ends."""

    subject: str
    text: str
    html: str | None


class CodedRenderer:
    """Fills content for any number of recipients into encoded parts."""

    def __init__(self, compiled: CompiledContent, *, pixel: bool) -> None:
        self._plain = Renderer(compiled)
        self._text, self.text_encoding = _template(compiled.text, html=False, pixel=False)
        self._has_clean_urls: bool | None = None  # until the first message
        self.html_encoding: str | None = None
        self._html: Template | None = None
        if compiled.html:
            self._html, self.html_encoding = _template(compiled.html, html=True, pixel=pixel)

    def render(self, context: RenderContext) -> Coded:
        """Return subject and parts for one recipient; raises ContentError at a limit."""
        variables = variables_of(context)
        link = self._plain.link_writer(variables, context)
        pixel_url, now = context.pixel_url or "", context.now
        clean = self._urls_are_clean(context)
        text = self._text.render(variables, link_writer=link, has_clean_urls=clean, now=now)
        html = None
        if self._html is not None:
            html = self._html.render(
                variables,
                link_writer=link,
                has_clean_urls=clean,
                pixel_url=pixel_url,
                now=now,
            )
            html = _ended(html) if self.html_encoding == "quoted-printable" else _whole(html)
        return Coded(
            self._plain.subject(variables, context),
            _tidied(text) if self.text_encoding == "quoted-printable" else _whole(tidy(text)),
            html,
        )

    def _urls_are_clean(self, context: RenderContext) -> bool:
        """Say whether the product's URLs, tracked links among them, can be written as they are.

        From message to message they differ in their tokens alone, which are clean: what holds for
        those of the first holds for all.
        """
        if context.link_url is None:
            return False
        if self._has_clean_urls is None:
            links = (context.link_url(0), context.unsubscribe_url, context.preferences_url)
            others = (context.view_url, context.pixel_url)
            self._has_clean_urls = all(is_clean(url) for url in (*links, *others) if url)
        return self._has_clean_urls


def _template(source: str, *, html: bool, pixel: bool) -> tuple[Template, str]:
    """Return the template in the form of the better encoding, and the encoding's name."""
    size = len(source.encode("utf-8", "replace"))
    if size < _SHORT or len(quote_constant(source)[0]) <= size * _LARGER:
        template = compile_template(source, html=html, form=_QUOTED[html], pixel=pixel)
        return template, "quoted-printable"
    return compile_template(source, html=html, pixel=pixel), "base64"


def _whole(text: str) -> str:
    raw = one_newline(text).replace("\n", "\r\n").encode("utf-8", "replace")
    return base64_lines(raw)


def _ended(code: str) -> str:
    """Return `code` without the soft break at its end (RFC 2045 section 6.7, rule 3)."""
    end = len(code) - 2 if code.endswith("\r\n") else len(code)
    if code.endswith("=", 0, end):  # an escape ends in a digit
        end -= 1
        if code.endswith(" ", 0, end):
            return f"{code[: end - 1]}=20"
    return code[:end]


def _tidied(code: str) -> str:
    """Return, in code, `render.tidy` of the text that `code` stands for."""
    return _ended(_narrowed(code).strip("\r\n")) + "\r\n"


def _narrowed(code: str) -> str:
    """Return `code` with gaps of one empty line."""
    pieces, done = [], 0
    while (start := code.find(_GAP, done)) >= 0:
        end = start + len(_GAP)
        while code.startswith("\r\n", end):
            end += 2
        if code.endswith("=", 0, start):
            start += 2  # a soft break's line end is none of the text's
        ends = min((end - start) // 2, 2)
        pieces.append(code[done:start] + "\r\n" * ends)
        done = end
    return "".join(pieces) + code[done:] if pieces else code
