"""How a campaign looks to one contact: filled in, without tracking.

Compiling happens in a worker; filling in is pure Python with limits and runs in the web process.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass

from sending.audience.models import Contact
from sending.campaigns.models import Campaign
from sending.campaigns.review import content_source
from sending.content.errors import ContentError
from sending.content.preview import fill
from sending.content.services import compiled_of, request_compiled
from sending.content.types import CompiledContent, Rendered
from sending.previews.services import variables_for
from tenants.directory.models import Tenant


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
    address = Tenant.objects.get(pk=campaign.tenant_id).postal_address
    try:
        rendered, preheader = fill(compiled, variables_for(contact), postal_address=address)
    except ContentError as error:
        return Preview(State.BROKEN, problem=error.message, line=error.line)
    return Preview(State.READY, key=key, rendered=rendered, preheader=preheader)
