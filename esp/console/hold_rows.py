"""Holds and shaping actions as their pages show them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from deliverability.holds.models import SendingHold
from deliverability.holds.selectors import held_tenants, open_holds_of
from esp.lib.ids import to_public
from sending.campaigns.selectors import campaigns_of_batches
from sending.lanes.models import ShapingAction
from sending.lanes.selectors import title_of
from sending.lanes.shaping import shaping_in_force
from sending.messages.models import Batch
from tenants.directory.models import Tenant
from tenants.scoping.context import scope

# More would be a mistake, not a wish: each tenant is asked by itself.
_MOST_TENANTS = 200
_HOLDS = ("hold_batch", "hold_tenant")


@dataclass(frozen=True)
class NamedBatch:
    """A batch as people know it, and the ids that commands and forms take."""

    name: str
    batch_id: str  # bat_…
    campaign_id: str  # cmp_…, "" for mail of the API and for what is gone


@dataclass(frozen=True)
class HoldRow:
    """A hold in force: whose, what of it, and the title of the rule that placed it.

    `batch` is None where more than one campaign is held.
    """

    hold: SendingHold
    tenant: Tenant
    what: str
    batch: NamedBatch | None
    rule_title: str


@dataclass(frozen=True)
class ActionRow:
    """What shaping did, in a lane or to a campaign (`batch`) or tenant."""

    action: ShapingAction
    place: str
    batch: NamedBatch | None
    rule_title: str


@dataclass(frozen=True)
class LaneAction:
    """What shaping or an operator did in a lane; for a hold, of whom and on which campaign."""

    action: ShapingAction
    tenant: Tenant | None
    batch: NamedBatch | None


def holds_of_all() -> list[HoldRow]:
    """Return the holds in force of all tenants, newest first; for operators."""
    tenants = Tenant.objects.filter(pk__in=held_tenants())[:_MOST_TENANTS]
    rows = [row for tenant in tenants for row in holds_of(tenant)]
    return sorted(rows, key=lambda row: row.hold.pk, reverse=True)


def holds_of(tenant: Tenant) -> list[HoldRow]:
    """Return one tenant's holds in force."""
    found = open_holds_of(tenant.pk)
    named = named_batches(tenant.pk, (hold.batch_ref for hold in found))
    rows = []
    for hold in found:
        batch = named.get(hold.batch_ref)
        title = rule_title(hold.rule, hold.rule)
        rows.append(HoldRow(hold, tenant, batch.name if batch else _part(hold), batch, title))
    return rows


def _part(hold: SendingHold) -> str:
    return f"All {hold.stream} mail" if hold.stream else "All mail"


def named_batches(
    tenant_id: uuid.UUID, refs: Iterable[uuid.UUID | None]
) -> dict[uuid.UUID | None, NamedBatch]:
    """Return a tenant's batches by their keys, each with its campaign's name; also those gone."""
    wanted = {ref for ref in refs if ref is not None}
    if not wanted:
        return {}
    with scope(tenant_id):
        labels = dict(Batch.objects.filter(pk__in=wanted).values_list("pk", "label"))
        campaigns = campaigns_of_batches(wanted)
    found: dict[uuid.UUID | None, NamedBatch] = {}
    for ref in wanted:
        campaign = campaigns.get(ref)
        name = campaign.name if campaign else labels.get(ref, "One campaign")
        campaign_id = campaign.public_id if campaign else ""
        found[ref] = NamedBatch(name, to_public("bat", ref), campaign_id)
    return found


def rule_title(rule: str, otherwise: str) -> str:
    """Return a shaping rule's title as the file has it now."""
    found = shaping_in_force().rules_by_id.get(rule)
    return found.title if found is not None else otherwise


def action_rows(tenant_id: uuid.UUID, actions: Iterable[ShapingAction]) -> list[ActionRow]:
    """Return what was done because of a tenant's mail, or to it, for the tenant to read."""
    listed = list(actions)
    named = named_batches(tenant_id, (_held_batch(one) for one in listed))
    rows = []
    for one in listed:
        batch = named.get(_held_batch(one))
        place = batch.name if batch else _place(one)
        rows.append(ActionRow(one, place, batch, rule_title(one.rule, one.title)))
    return rows


def _place(action: ShapingAction) -> str:
    if action.action == "hold_tenant":
        return "All your mail"
    if not action.site:
        return "Your workspace"
    source = f", from {action.source_address}" if action.source_address else ""
    return f"{title_of(action.site)}{source}"


def lane_actions(actions: Iterable[ShapingAction]) -> list[LaneAction]:
    """Return a lane's audit lines for operators; each tenant that was held is asked by itself."""
    listed = list(actions)
    refs: dict[uuid.UUID, list[uuid.UUID | None]] = {}
    for one in listed:
        if one.action in _HOLDS and one.tenant_ref is not None:
            refs.setdefault(one.tenant_ref, []).append(_held_batch(one))
    tenants = {one.pk: one for one in Tenant.objects.filter(pk__in=refs)} if refs else {}
    named = {key: named_batches(key, refs[key]) for key in tenants}
    rows = []
    for one in listed:
        tenant = tenants.get(one.tenant_ref) if one.tenant_ref and one.action in _HOLDS else None
        batch = named[tenant.pk].get(_held_batch(one)) if tenant else None
        rows.append(LaneAction(one, tenant, batch))
    return rows


def _held_batch(action: ShapingAction) -> uuid.UUID | None:
    return action.batch_ref if action.action == "hold_batch" else None
