"""Reads of pools and source IPs; above all: which addresses a tenant's stream leaves from."""

from __future__ import annotations

import time
import uuid
from typing import Literal, overload

from django.conf import settings
from django.db.models import Count, Prefetch, Q, QuerySet

from deliverability.ips.models import IpAddress, IpPool, PoolRule
from deliverability.ips.types import SourceIp
from tenants.scoping.context import scope

__all__ = ["SourceIp", "forget_sources", "pool_rules_of", "pools_with_addresses", "sources_for"]

# A change by the operator reaches every delivery process within this time.
_KEEP_SECONDS = 30.0
_kept: dict[tuple[uuid.UUID, str], tuple[float, list[SourceIp]]] = {}


@overload
def sources_for(tenant_id: uuid.UUID, stream: str) -> list[SourceIp]: ...
@overload
def sources_for(tenant_id: uuid.UUID, stream: str, *, load: Literal[True]) -> list[SourceIp]: ...
@overload
def sources_for(tenant_id: uuid.UUID, stream: str, *, load: bool) -> list[SourceIp] | None: ...


def sources_for(tenant_id: uuid.UUID, stream: str, *, load: bool = True) -> list[SourceIp] | None:
    """Return the addresses that mail of `stream` may leave from; never an empty list.

    The pool of the tenant's rule, else the shared pools of that stream, else those of any stream;
    active addresses only. Where none is active, one unbound source: the operating system's choice.
    Kept for 30 seconds in the process; with `load=False` only what is kept is returned, else None
    (for event loops, which must not ask the database).
    """
    key = (tenant_id, stream)
    kept = _kept.get(key)
    if kept is not None and time.monotonic() - kept[0] < _KEEP_SECONDS:
        return kept[1]
    if not load:
        return None
    found = _load(tenant_id, stream)
    _kept[key] = (time.monotonic(), found)
    return found


def forget_sources() -> None:
    """Drop what this process has kept."""
    _kept.clear()


def _load(tenant_id: uuid.UUID, stream: str) -> list[SourceIp]:
    streams = [stream, IpPool.Purpose.ANY]
    with scope(tenant_id):
        rules = dict(PoolRule.objects.filter(stream__in=streams).values_list("stream", "pool_id"))
        tries = [Q(pool_id=rules[name]) for name in streams if name in rules]
        tries += [Q(pool__is_shared=True, pool__purpose=name) for name in streams]
        for condition in tries:
            rows = IpAddress.objects.filter(condition, status=IpAddress.Status.ACTIVE)
            found = [SourceIp(row.pk, row.address, row.ehlo_name) for row in rows.order_by("id")]
            if found:
                return found
    return [SourceIp(None, "", f"mail.{settings.PRODUCT_DOMAIN}")]


def pools_with_addresses() -> QuerySet[IpPool]:
    """Return all pools by name, each with its addresses and the count of active ones."""
    active = Count("addresses", filter=Q(addresses__status=IpAddress.Status.ACTIVE))
    addresses = Prefetch("addresses", IpAddress.objects.order_by("address"))
    return IpPool.objects.annotate(active=active).prefetch_related(addresses).order_by("name")


def pool_rules_of(tenant_id: uuid.UUID) -> list[PoolRule]:
    """Return a tenant's rules with their pools."""
    with scope(tenant_id):
        return list(PoolRule.objects.select_related("pool").order_by("stream"))
