"""Pools: their kind, where they overflow to, and who is assigned to them."""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass
from typing import Any

from django.db import IntegrityError, connection, transaction

from deliverability.ips.models import IpAddress, IpPool, PoolRule
from deliverability.ips.recording import changes, record_change, require_operator
from deliverability.ips.selectors import domains_of, forget_sources
from esp.lib.errors import Conflict, InvalidInput
from tenants.accounts.models import User
from tenants.audit.services import record
from tenants.directory.actor import operator_actor
from tenants.directory.models import Tenant
from tenants.scoping.context import scope

_KIND = IpPool.Kind
_NEVER = IpPool.Overflow.NEVER


@dataclass(frozen=True, slots=True)
class PoolFields:
    """What an operator says about a pool; `is_shared` follows from the kind."""

    name: str
    purpose: str = IpPool.Purpose.ANY
    kind: str = IpPool.Kind.SHARED
    overflow_pool: IpPool | None = None
    overflow_when: str = IpPool.Overflow.NEVER


def create_pool(*, operator: User, fields: PoolFields) -> IpPool:
    """Make a pool. Raises InvalidInput."""
    require_operator(operator)
    pool = IpPool()
    _apply(pool, fields)
    _save(pool)
    record_change(operator, "ips.create_pool", pool.name, **_facts(pool))
    return pool


def update_pool(*, operator: User, pool: IpPool, fields: PoolFields) -> None:
    """Change a pool. Raises InvalidInput."""
    require_operator(operator)
    before = _facts(pool)
    _apply(pool, fields)
    _check_those_that_overflow_here(pool)
    changed = changes(before, _facts(pool))
    if changed:
        _save(pool)
        record_change(operator, "ips.update_pool", before["name"], **changed)


def _facts(pool: IpPool) -> dict[str, Any]:
    return {
        "name": pool.name,
        "purpose": str(pool.purpose),
        "kind": str(pool.kind),
        "overflow_pool": pool.overflow_pool.name if pool.overflow_pool else "",
        "overflow_when": str(pool.overflow_when),
    }


def _apply(pool: IpPool, fields: PoolFields) -> None:
    name = " ".join(fields.name.split())
    if not name:
        raise InvalidInput("Give the pool a name.", field="name")
    if fields.purpose not in IpPool.Purpose.values:
        raise InvalidInput("Choose a purpose from the list.", field="purpose")
    if fields.kind not in IpPool.Kind.values:
        raise InvalidInput("Choose a kind from the list.", field="kind")
    if fields.overflow_when not in IpPool.Overflow.values:
        raise InvalidInput("Choose from the list when mail overflows.", field="overflow_when")
    _check_overflow(pool, fields)
    for key, value in (asdict(fields) | {"name": name}).items():
        if key != "overflow_pool":  # asdict copies it
            setattr(pool, key, value)
    pool.overflow_pool = fields.overflow_pool
    pool.is_shared = fields.kind == _KIND.SHARED


def _check_overflow(pool: IpPool, fields: PoolFields) -> None:
    target, when = fields.overflow_pool, fields.overflow_when
    if fields.kind == _KIND.DEDICATED and (target or when != _NEVER):
        raise InvalidInput(
            f"A dedicated pool keeps to itself. Choose the kind “{_KIND.HYBRID.label}”.",
            field="kind",
        )
    if target is None and (when != _NEVER or fields.kind == _KIND.HYBRID):
        raise InvalidInput("Choose the pool that takes what overflows.", field="overflow_pool")
    if target is None:
        return
    if when == _NEVER:
        raise InvalidInput("Say when mail overflows to the other pool.", field="overflow_when")
    if target.pk == pool.pk:
        raise InvalidInput("A pool cannot overflow to itself.", field="overflow_pool")
    _check_risk(fields.kind, target.kind)
    _check_circle(pool, target)


def _check_risk(kind: str, target_kind: str) -> None:
    if kind == _KIND.HIGH_RISK and target_kind != _KIND.HIGH_RISK:
        raise InvalidInput(
            "A high-risk pool overflows to high-risk pools only: its mail would harm the others.",
            field="overflow_pool",
        )
    if kind != _KIND.HIGH_RISK and target_kind == _KIND.HIGH_RISK:
        raise InvalidInput(
            "Only high-risk pools overflow to a high-risk pool: good mail would suffer there.",
            field="overflow_pool",
        )


def _check_circle(pool: IpPool, target: IpPool) -> None:
    by_id = {row.pk: row for row in IpPool.objects.all()}
    way, at = [pool.name or "this pool"], by_id.get(target.pk)
    while at is not None and at.name not in way:
        way.append(at.name)
        if at.overflow_pool_id == pool.pk:
            raise InvalidInput(
                f"The pools would overflow in a circle: {', '.join(way)}, and back.",
                field="overflow_pool",
            )
        at = by_id.get(at.overflow_pool_id) if at.overflow_pool_id else None


def _check_those_that_overflow_here(pool: IpPool) -> None:
    for source in IpPool.objects.filter(overflow_pool_id=pool.pk).order_by("name"):
        if (source.kind == _KIND.HIGH_RISK) != (pool.kind == _KIND.HIGH_RISK):
            raise InvalidInput(
                f"The pool {source.name} overflows to this one: high-risk mail and other mail "
                "are kept apart.",
                field="kind",
            )


def _save(pool: IpPool) -> None:
    try:
        with transaction.atomic():
            pool.save()
    except IntegrityError as error:
        raise InvalidInput("Another pool has this name.", field="name") from error


def remove_pool(*, operator: User, pool: IpPool) -> None:
    """Remove an empty pool that no tenant and no overflow leads to. Raises Conflict."""
    require_operator(operator)
    if IpAddress.objects.filter(pool=pool).exists():
        raise Conflict("The pool still has addresses: move or remove them first.")
    source = IpPool.objects.filter(overflow_pool=pool).first()
    if source is not None:
        raise Conflict(f"The pool {source.name} overflows to this one: change that first.")
    try:
        with transaction.atomic():
            IpPool.objects.filter(pk=pool.pk).delete()
            # Tenants' rules are not visible here, but the database knows them: it is asked now,
            # not at the commit.
            with connection.cursor() as cursor:
                cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
                cursor.execute("SET CONSTRAINTS ALL DEFERRED")
    except IntegrityError as error:
        raise Conflict("A tenant is assigned to this pool.") from error
    record_change(operator, "ips.remove_pool", pool.name)


def assign_pool(
    *,
    operator: User,
    tenant: Tenant,
    stream: str,
    pool: IpPool | None,
    domain_id: uuid.UUID | None = None,
) -> None:
    """Let a tenant's stream (from one domain, or from all) use a pool; None takes the rule away.

    Raises InvalidInput for a domain that is not the tenant's.
    """
    require_operator(operator)
    if stream not in IpPool.Purpose.values:
        raise InvalidInput("Choose a stream from the list.", field="stream")
    domains = dict(domains_of(tenant.pk))
    if domain_id is not None and domain_id not in domains:
        raise InvalidInput("Choose one of the tenant's domains.", field="domain")
    which: dict[str, Any] = {"tenant": tenant, "stream": stream, "domain_id": domain_id}
    with scope(tenant.pk):
        if pool is None:
            if not PoolRule.objects.filter(**which).delete()[0]:
                return
        else:
            PoolRule.objects.update_or_create(**which, defaults={"pool": pool})
        forget_sources()
        record(
            operator_actor(operator, tenant.pk),
            "ips.assign_pool" if pool else "ips.unassign_pool",
            target=tenant.name,
            detail={
                "stream": stream,
                "domain": domains[domain_id] if domain_id else "",
                "pool": pool.name if pool else "shared",
            },
        )
