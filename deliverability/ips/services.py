"""What operators do with source IPs and pools; each change stands in an audit log.

Changes of IPs and pools are recorded for the product's own tenant, a tenant's rule in its own log.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from django.db import IntegrityError, connection, transaction

from deliverability.ips.models import IpAddress, IpPool, PoolRule
from deliverability.ips.selectors import forget_sources
from esp.lib.errors import Conflict, InvalidInput, NotFound
from tenants.accounts.models import User
from tenants.audit.services import record
from tenants.directory.actor import operator_actor
from tenants.directory.models import Tenant
from tenants.directory.services import get_or_create_system_tenant
from tenants.scoping.context import scope

_HOST_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")


def _record(operator: User, action: str, target: str, **detail: Any) -> None:
    forget_sources()
    actor = operator_actor(operator, get_or_create_system_tenant().pk)
    record(actor, action, target=target, detail=detail)


def _require_operator(operator: User) -> None:
    if not operator.is_operator:
        raise NotFound("There is nothing at this address.")


def _clean_host(name: str) -> str:
    """Return a host name in lower case; raises InvalidInput (RFC 5321 section 4.1.1.1)."""
    name = name.strip().rstrip(".").lower()
    labels = name.split(".")
    if len(labels) < 2 or len(name) > 253 or not all(_HOST_LABEL.fullmatch(x) for x in labels):
        raise InvalidInput(
            "Give a full host name such as out1.mail.example.com.", field="ehlo_name"
        )
    return name


def _clean_name(name: str) -> str:
    name = " ".join(name.split())
    if not name:
        raise InvalidInput("Give the pool a name.", field="name")
    return name


def create_pool(*, operator: User, name: str, purpose: str, is_shared: bool) -> IpPool:
    """Make a pool. Raises InvalidInput."""
    _require_operator(operator)
    name = _clean_name(name)
    if purpose not in IpPool.Purpose.values:
        raise InvalidInput("Choose a purpose from the list.", field="purpose")
    try:
        with transaction.atomic():
            pool = IpPool.objects.create(name=name, purpose=purpose, is_shared=is_shared)
    except IntegrityError as error:
        raise InvalidInput("Another pool has this name.", field="name") from error
    _record(operator, "ips.create_pool", name, purpose=purpose, shared=is_shared)
    return pool


def update_pool(*, operator: User, pool: IpPool, name: str, purpose: str, is_shared: bool) -> None:
    """Change a pool's name, purpose and sharing. Raises InvalidInput."""
    _require_operator(operator)
    before = {"name": pool.name, "purpose": pool.purpose, "is_shared": pool.is_shared}
    after = {"name": _clean_name(name), "purpose": purpose, "is_shared": is_shared}
    if purpose not in IpPool.Purpose.values:
        raise InvalidInput("Choose a purpose from the list.", field="purpose")
    try:
        with transaction.atomic():
            IpPool.objects.filter(pk=pool.pk).update(**after)
    except IntegrityError as error:
        raise InvalidInput("Another pool has this name.", field="name") from error
    changed = {key: [before[key], after[key]] for key in after if before[key] != after[key]}
    if changed:
        _record(operator, "ips.update_pool", pool.name, **changed)


def remove_pool(*, operator: User, pool: IpPool) -> None:
    """Remove an empty pool that no tenant is assigned to. Raises Conflict."""
    _require_operator(operator)
    if IpAddress.objects.filter(pool=pool).exists():
        raise Conflict("The pool still has addresses: move or switch them off first.")
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
    _record(operator, "ips.remove_pool", pool.name)


def add_address(*, operator: User, address: str, ehlo_name: str, pool: IpPool) -> IpAddress:
    """Add a source IP. Raises InvalidInput."""
    _require_operator(operator)
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError as error:
        raise InvalidInput("This is not an IP address.", field="address") from error
    if parsed.is_multicast or parsed.is_unspecified:
        raise InvalidInput("Mail cannot leave from this address.", field="address")
    host = _clean_host(ehlo_name)
    try:
        with transaction.atomic():
            row = IpAddress.objects.create(address=str(parsed), ehlo_name=host, pool=pool)
    except IntegrityError as error:
        raise InvalidInput("This address is in a pool already.", field="address") from error
    _record(operator, "ips.add_address", row.address, ehlo_name=host, pool=pool.name)
    return row


def update_address(
    *, operator: User, row: IpAddress, ehlo_name: str, pool: IpPool, status: str
) -> None:
    """Change an address's EHLO name, pool and status (active, draining, off).

    A draining address takes no new message; what it has in hand goes out. Raises InvalidInput.
    """
    _require_operator(operator)
    if status not in IpAddress.Status.values:
        raise InvalidInput("Choose a status from the list.", field="status")
    before = {"ehlo_name": row.ehlo_name, "pool": row.pool.name, "status": row.status}
    row.ehlo_name, row.pool, row.status = _clean_host(ehlo_name), pool, status
    after = {"ehlo_name": row.ehlo_name, "pool": pool.name, "status": status}
    changed = {key: [before[key], after[key]] for key in after if before[key] != after[key]}
    if changed:
        row.save(update_fields=["ehlo_name", "pool", "status"])
        _record(operator, "ips.update_address", row.address, **changed)


def assign_pool(*, operator: User, tenant: Tenant, stream: str, pool: IpPool | None) -> None:
    """Let a tenant's stream use a pool; None gives it back to the shared ones."""
    _require_operator(operator)
    if stream not in IpPool.Purpose.values:
        raise InvalidInput("Choose a stream from the list.", field="stream")
    with scope(tenant.pk):
        if pool is None:
            deleted, _ = PoolRule.objects.filter(stream=stream).delete()
            if not deleted:
                return
        else:
            PoolRule.objects.update_or_create(tenant=tenant, stream=stream, defaults={"pool": pool})
        forget_sources()
        record(
            operator_actor(operator, tenant.pk),
            "ips.assign_pool" if pool else "ips.unassign_pool",
            target=tenant.name,
            detail={"stream": stream, "pool": pool.name if pool else "shared"},
        )
