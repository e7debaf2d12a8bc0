"""Reads of the audit log of the tenant in scope."""

from __future__ import annotations

from dataclasses import dataclass

from esp.kit.paging import Page, newest_first
from tenants.audit.models import AuditEntry

_RECENT = 5000


@dataclass(frozen=True)
class Choices:
    """What the log can be filtered by: who and what stands in its latest entries."""

    actors: list[str]
    actions: list[str]


def entries(
    *, actor: str = "", action: str = "", after: str | None = None, before: str | None = None
) -> Page[AuditEntry]:
    """Return one page of the log, newest first. Raises InvalidInput for a forged cursor."""
    rows = AuditEntry.objects.all()
    if actor:
        rows = rows.filter(actor_label=actor)
    if action:
        rows = rows.filter(action=action)
    return newest_first(rows, after=after, before=before)


def choices() -> Choices:
    """Return the actors and actions of the latest 5,000 entries."""
    recent = AuditEntry.objects.order_by("-id").values_list("actor_label", "action")[:_RECENT]
    found = set(recent)
    return Choices(
        actors=sorted({actor for actor, _ in found}),
        actions=sorted({action for _, action in found}),
    )
