"""Holds and shaping actions as their pages show them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from deliverability.holds.models import SendingHold
from deliverability.holds.selectors import held_tenants, open_holds_of
from sending.lanes.models import ShapingAction
from sending.lanes.selectors import title_of
from sending.lanes.shaping import shaping_in_force
from sending.messages.models import Batch
from tenants.directory.models import Tenant
from tenants.scoping.context import scope

# More would be a mistake, not a wish: each tenant is asked by itself.
_MOST_TENANTS = 200


@dataclass(frozen=True)
class HoldRow:
    """A hold in force: whose, what of it, and the title of the rule that placed it."""

    hold: SendingHold
    tenant: Tenant
    what: str
    rule_title: str


@dataclass(frozen=True)
class ActionRow:
    """What shaping did, in a lane or to a campaign or tenant."""

    action: ShapingAction
    place: str
    rule_title: str


def holds_of_all() -> list[HoldRow]:
    """Return the holds in force of all tenants, newest first; for operators."""
    tenants = Tenant.objects.filter(pk__in=held_tenants())[:_MOST_TENANTS]
    rows = [row for tenant in tenants for row in holds_of(tenant)]
    return sorted(rows, key=lambda row: row.hold.pk, reverse=True)


def holds_of(tenant: Tenant) -> list[HoldRow]:
    """Return one tenant's holds in force."""
    found = open_holds_of(tenant.pk)
    labels = batch_labels(tenant.pk, (hold.batch_ref for hold in found))
    return [
        HoldRow(hold, tenant, _what(hold, labels), rule_title(hold.rule, hold.rule))
        for hold in found
    ]


def _what(hold: SendingHold, labels: dict[uuid.UUID, str]) -> str:
    if hold.batch_ref is not None:
        return labels.get(hold.batch_ref, "One campaign")
    return f"All {hold.stream} mail" if hold.stream else "All mail"


def batch_labels(tenant_id: uuid.UUID, refs: Iterable[uuid.UUID | None]) -> dict[uuid.UUID, str]:
    """Return the names of a tenant's campaigns by batch; those that are gone are left out."""
    with scope(tenant_id):
        wanted = [ref for ref in refs if ref is not None]
        return dict(Batch.objects.filter(pk__in=wanted).values_list("pk", "label"))


def rule_title(rule: str, otherwise: str) -> str:
    """Return a shaping rule's title as the file has it now."""
    found = shaping_in_force().rules_by_id.get(rule)
    return found.title if found is not None else otherwise


def action_rows(tenant_id: uuid.UUID, actions: Iterable[ShapingAction]) -> list[ActionRow]:
    """Return what was done because of a tenant's mail, or to it, for the tenant to read."""
    listed = list(actions)
    labels = batch_labels(tenant_id, (one.batch_ref for one in listed))
    return [ActionRow(one, _place(one, labels), rule_title(one.rule, one.title)) for one in listed]


def _place(action: ShapingAction, labels: dict[uuid.UUID, str]) -> str:
    if action.action == "hold_tenant":
        return "All your mail"
    if action.action == "hold_batch" and action.batch_ref is not None:
        return labels.get(action.batch_ref, "One campaign")
    if not action.site:
        return "Your workspace"
    source = f", from {action.source_address}" if action.source_address else ""
    return f"{title_of(action.site)}{source}"
