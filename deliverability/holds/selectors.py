"""Reads of holds: which are in force."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass

from django.db import connection
from django.db.models import Q, QuerySet
from django.utils import timezone

from deliverability.holds.models import SendingHold
from tenants.scoping.context import scope


@dataclass(frozen=True, slots=True)
class HoldFacts:
    """One hold in force: "" as `stream` is every stream, None as `batch_id` the whole tenant."""

    id: uuid.UUID
    tenant_id: uuid.UUID
    stream: str
    batch_id: uuid.UUID | None
    reason: str
    rule: str
    until: dt.datetime | None

    def covers(self, tenant_id: uuid.UUID, batch_id: uuid.UUID, stream: str) -> bool:
        """Tell whether a message of this tenant, batch and stream is held by it."""
        return (
            self.tenant_id == tenant_id
            and self.batch_id in (None, batch_id)
            and self.stream in ("", stream)
        )


def holds_in_force(now: dt.datetime | None = None) -> list[HoldFacts]:
    """Return the holds of all tenants that are in force: for workers, which cross tenants."""
    rows = SendingHold.unscoped.filter(_in_force(now)).order_by("id")[:50_000]
    return [_facts(row) for row in rows]


def hold_for(
    tenant_id: uuid.UUID, batch_id: uuid.UUID, stream: str, *, now: dt.datetime | None = None
) -> HoldFacts | None:
    """Return the hold that a message meets, the one that lasts longest, else None.

    Needs the tenant's scope, or a worker's role.
    """
    rows = SendingHold.unscoped.filter(
        _in_force(now), Q(batch_ref=None) | Q(batch_ref=batch_id), tenant_id=tenant_id
    )
    found = [facts for row in rows if (facts := _facts(row)).covers(tenant_id, batch_id, stream)]
    open_ended = [one for one in found if one.until is None]
    if open_ended:
        return open_ended[0]
    return max(found, key=lambda one: one.until.timestamp() if one.until else 0.0, default=None)


def held_tenants() -> list[uuid.UUID]:
    """Return the tenants with holds in force; needs no scope, and tells no more than their ids."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT held_tenants()")
        return [key for (key,) in cursor.fetchall()]


def open_holds_of(tenant_id: uuid.UUID, now: dt.datetime | None = None) -> list[SendingHold]:
    """Return a tenant's holds in force, newest first; opens the tenant's scope."""
    with scope(tenant_id):
        return list(SendingHold.objects.filter(_in_force(now)).order_by("-id")[:200])


def holds_of_tenant(tenant_id: uuid.UUID) -> QuerySet[SendingHold]:
    """Return a tenant's holds, those in force and past ones, newest first."""
    return SendingHold.unscoped.filter(tenant_id=tenant_id).order_by("-id")


def _in_force(now: dt.datetime | None) -> Q:
    return Q(lifted_at=None) & (Q(until=None) | Q(until__gt=now or timezone.now()))


def _facts(row: SendingHold) -> HoldFacts:
    return HoldFacts(
        row.pk, row.tenant_id, row.stream, row.batch_ref, row.reason, row.rule, row.until
    )
