"""How content looks to one reader: compiled by a worker, filled in here, without tracking.

Filling in is pure Python with limits and runs in the web process. This room knows no contacts:
whose mail it is comes in as `variables`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from sending.content.checks import check_content
from sending.content.errors import ContentError
from sending.content.guard import check_size
from sending.content.liquid import check_syntax
from sending.content.mjml import SOCIAL_ICON_ORIGIN
from sending.content.models import CompiledVersion
from sending.content.render import Renderer, missing_fields
from sending.content.services import compiled_of, look_after, request_compiled
from sending.content.types import CompiledContent, ContentSource, RenderContext, Rendered

State = Literal["empty", "compiling", "ready", "problem"]

# Where the product's own links lead in a preview: a made-up address that is plainly none.
_NOWHERE: Final = "https://preview.invalid/"
# Clients turn the colours of a mail without dark styles of its own, pictures excepted.
_INVERTED: Final = (
    "<style>html{background:#fff;filter:invert(1) hue-rotate(180deg)}"
    "img,video,svg{filter:invert(1) hue-rotate(180deg)}</style>"
)
_DARK: Final = "<style>:root{color-scheme:dark}</style>"
_SCHEME: Final = re.compile(r"\(\s*prefers-color-scheme\s*:\s*(dark|light)\s*\)", re.IGNORECASE)
_ALWAYS, _NEVER = "(min-width:0px)", "(max-width:0px)"
_HEAD: Final = re.compile(r"<head[^>]*>", re.IGNORECASE)
_SNIPPET: Final = 140

FRAME_POLICY: Final = (
    "default-src 'none'; img-src * data:; style-src 'unsafe-inline'; font-src *; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'self'; "
    "sandbox allow-popups allow-popups-to-escape-sandbox"
)
"""The Content-Security-Policy of a page that shows tenants' HTML: it can run nothing and has no
origin; pictures may come from anywhere, as in a mail program; links open in a window of their own.
"""


@dataclass(frozen=True, slots=True)
class Preview:
    """A look at the mail.

    `rendered` and `preheader` are there when `state` is "ready", `problem` (with `line` of the
    body, or the `field` that it is about) when it is "problem". `missing` names merge fields
    without default that this reader lacks; `notes` are sentences of the checks before sending.
    """

    state: State
    version: CompiledVersion | None = None
    problem: str = ""
    line: int | None = None
    field: str = "body"
    rendered: Rendered | None = None
    preheader: str = ""
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def preview(
    source: ContentSource,
    variables: Mapping[str, object],
    *,
    footer: bool,
    postal_address: str = "",
) -> Preview:
    """Return how `source` looks with `variables`, for the tenant in scope.

    While a worker compiles it, `state` is "compiling": ask again with `preview_of_version`.
    """
    if not source.body.strip():
        return Preview("empty")
    fault = _fault(source)
    if fault is not None:
        return fault
    version = request_compiled(source=source, footer=footer)
    return preview_of_version(version, variables, footer=footer, postal_address=postal_address)


def _fault(source: ContentSource) -> Preview | None:
    """Return what is wrong at first sight, naming the field; linear checks in pure Python."""
    for field, part in {
        "subject": source.subject,
        "preview_text": source.preview_text,
        "body": source.body,
        "text_body": source.text_body or "",
    }.items():
        try:
            check_size(part)
            check_syntax(part)
        except ContentError as error:
            return Preview("problem", problem=error.message, line=error.line, field=field)
    return None


def preview_of_version(
    version: CompiledVersion,
    variables: Mapping[str, object],
    *,
    footer: bool,
    postal_address: str = "",
) -> Preview:
    """Return how a version that was asked for looks with `variables`."""
    version = look_after(version)
    if version.finished_at is None:
        return Preview("compiling", version)
    if version.compiled is None:
        return Preview("problem", version, problem=version.problem, line=version.problem_line)
    try:
        compiled = compiled_of(version)
        return _filled(version, compiled, variables, footer=footer, postal_address=postal_address)
    except ValueError:  # of a version of the product that has gone
        return Preview("problem", version, problem="This preview is out of date. Load it again.")


def _filled(
    version: CompiledVersion,
    compiled: CompiledContent,
    variables: Mapping[str, object],
    *,
    footer: bool,
    postal_address: str,
) -> Preview:
    try:
        rendered, preheader = fill(compiled, variables, postal_address=postal_address)
    except ContentError as error:
        return Preview("problem", version, problem=error.message, line=error.line)
    missing = missing_fields(compiled, variables)
    return Preview(
        "ready",
        version,
        rendered=rendered,
        preheader=preheader,
        missing=missing,
        notes=_notes(compiled, missing, footer=footer),
    )


def fill(
    compiled: CompiledContent, variables: Mapping[str, object], *, postal_address: str
) -> tuple[Rendered, str]:
    """Return the mail filled in with `variables`, and what the inbox shows behind its subject.

    That is the preview text, or the first words. Nothing is tracked, and the product's own links
    lead nowhere. Raises ContentError at a limit.
    """
    context = RenderContext(
        variables=variables,
        unsubscribe_url=f"{_NOWHERE}unsubscribe",
        preferences_url=f"{_NOWHERE}preferences",
        view_url=f"{_NOWHERE}view",
        postal_address=postal_address,
    )
    rendered = Renderer(compiled).render(context)
    preheader = Renderer(_only_preheader(compiled)).render(context).subject
    return rendered, preheader or " ".join(rendered.text.split())[:_SNIPPET]


def _only_preheader(compiled: CompiledContent) -> CompiledContent:
    return CompiledContent(subject=compiled.preheader, preheader="", html=None, text="")


def _notes(compiled: CompiledContent, missing: tuple[str, ...], *, footer: bool) -> tuple[str, ...]:
    checks = check_content(compiled, broadcast=footer)
    # Merge fields without default are said by name, for the contact that is looked as.
    notes = [c.sentence for c in checks if not c.ok and (c.code != "merge-fields" or not missing)]
    if SOCIAL_ICON_ORIGIN in (compiled.html or ""):
        notes.append("Social icons have no picture: give each mj-social-element a src of your own.")
    return (*notes, *compiled.warnings)


def page_of(html: str, *, dark: bool) -> str:
    """Return a mail's HTML for a frame: links open outside, colours as a client shows them.

    A frame without an origin does not take the colour scheme of the page around it, so the mail's
    questions about the scheme are answered here.
    """
    wanted = "dark" if dark else "light"
    html, asked = _SCHEME.subn(
        lambda match: _ALWAYS if match[1].lower() == wanted else _NEVER, html
    )
    extra = '<base target="_blank">'
    if dark:
        extra += _DARK if asked else _INVERTED
    head = _HEAD.search(html)
    if head is None:
        return extra + html
    return f"{html[: head.end()]}{extra}{html[head.end() :]}"
