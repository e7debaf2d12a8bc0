"""MJML to HTML by mrml, with no file, no network and no third party's icons or fonts."""

from __future__ import annotations

import re

import mrml

from sending.content.errors import ContentError
from sending.content.guard import line_at
from sending.content.native import panics_refused

# mrml's default origin is another company's host; icons come from the product's own media instead.
SOCIAL_ICON_ORIGIN = "https://icons.invalid/"
_POSITION = re.compile(r"at position (\d+):\d+")


def mjml_to_html(source: str, *, social_icon_origin: str = SOCIAL_ICON_ORIGIN) -> str:
    """Return the HTML of an MJML source that has passed the guard; raises ContentError."""
    try:
        with panics_refused("MJML: the source cannot be read; look for stray quotes and tags."):
            result = mrml.to_html(
                source,
                parser_options=mrml.ParserOptions(include_loader=mrml.noop_loader()),
                render_options=mrml.RenderOptions(social_icon_origin=social_icon_origin, fonts={}),
            )
    except OSError as error:  # mrml raises OSError for every syntax error
        raise _syntax_error(source, str(error)) from error
    return str(result.content)


def _syntax_error(source: str, message: str) -> ContentError:
    if "included template" in message:
        return ContentError("MJML: mj-include is not available here.", code="mjml")
    match = _POSITION.search(message)
    line = None
    if match:
        before = source.encode()[: int(match.group(1))].decode(errors="ignore")
        line = line_at(before, len(before))
    detail = message.replace(" in root template", "").partition(" at position")[0]
    hint = "close every tag and quote every attribute"
    return ContentError(f"MJML: {detail} ({hint}).", line=line, code="mjml")
