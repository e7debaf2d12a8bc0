"""How a campaign looks to one contact: filled in, without tracking.

Compiling happens in a worker; filling in is pure Python with limits and runs in the web process.
"""

from __future__ import annotations

import enum
import json
import re
from dataclasses import dataclass

from sending.audience.attributes import variables_of
from sending.audience.models import Contact
from sending.campaigns.models import Campaign
from sending.campaigns.review import content_source
from sending.content.errors import ContentError
from sending.content.render import Renderer
from sending.content.services import compiled_of, request_compiled
from sending.content.types import CompiledContent, RenderContext, Rendered
from tenants.directory.models import Tenant

# Shown where a contact is missing: what a person without any attribute gets.
_NOWHERE = "#preview"
# Clients without dark styles of the mail's own turn colours round, pictures excepted.
_INVERTED = (
    "<style>html{background:#fff;filter:invert(1) hue-rotate(180deg)}"
    "img,video,svg{filter:invert(1) hue-rotate(180deg)}</style>"
)
_HAS_DARK = re.compile(r"prefers-color-scheme\s*:\s*dark", re.IGNORECASE)
_HEAD = re.compile(r"<head[^>]*>", re.IGNORECASE)


class State(enum.Enum):
    """Where the content stands between writing and looking at it."""

    EMPTY = "empty"
    COMPILING = "compiling"
    BROKEN = "broken"
    READY = "ready"


@dataclass(frozen=True)
class Preview:
    """A look at the mail. `rendered` is there when `state` is READY; `problem` when BROKEN."""

    state: State
    key: str = ""  # changes whenever the mail looks different
    problem: str = ""
    line: int | None = None
    rendered: Rendered | None = None
    preheader: str = ""


def compile_state(campaign: Campaign) -> tuple[State, str]:
    """Return whether the content can be sent, asking a worker for it, and what is wrong with it."""
    if campaign.content_id:
        return State.READY, ""
    if not campaign.body.strip():
        return State.EMPTY, ""
    version = request_compiled(source=content_source(campaign), footer=True)
    if version.finished_at is None:
        return State.COMPILING, ""
    return (State.READY, "") if version.compiled else (State.BROKEN, version.problem)


def preview_of(campaign: Campaign, contact: Contact | None) -> Preview:
    """Return the campaign as `contact` gets it (None: someone of whom only nothing is known)."""
    if campaign.content is not None:
        compiled = CompiledContent.from_json(json.dumps(campaign.content.compiled))
        return _filled(campaign, compiled, contact, key=str(campaign.content_id))
    if not campaign.body.strip():
        return Preview(State.EMPTY)
    version = request_compiled(source=content_source(campaign), footer=True)
    if version.finished_at is None:
        return Preview(State.COMPILING)
    if version.compiled is None:
        return Preview(State.BROKEN, problem=version.problem, line=version.problem_line)
    return _filled(campaign, compiled_of(version), contact, key=version.source_hash[:16])


def _filled(
    campaign: Campaign, compiled: CompiledContent, contact: Contact | None, *, key: str
) -> Preview:
    variables = variables_of(contact) if contact else {"email": "reader@example.com"}
    context = RenderContext(
        variables=variables,
        unsubscribe_url=_NOWHERE,
        preferences_url=_NOWHERE,
        view_url=_NOWHERE,
        postal_address=Tenant.objects.get(pk=campaign.tenant_id).postal_address,
    )
    try:
        rendered = Renderer(compiled).render(context)
        preheader = Renderer(_only_preheader(compiled)).render(context).subject
    except ContentError as error:
        return Preview(State.BROKEN, problem=error.message, line=error.line)
    return Preview(State.READY, key=key, rendered=rendered, preheader=preheader)


def _only_preheader(compiled: CompiledContent) -> CompiledContent:
    return CompiledContent(subject=compiled.preheader, preheader="", html=None, text="")


def page_of(html: str, *, dark: bool) -> str:
    """Return a mail's HTML for a frame: links open outside, colours as a dark client shows them."""
    extra = '<base target="_blank">'
    if dark and not _HAS_DARK.search(html):
        extra += _INVERTED
    head = _HEAD.search(html)
    if head is None:
        return extra + html
    return f"{html[: head.end()]}{extra}{html[head.end() :]}"
