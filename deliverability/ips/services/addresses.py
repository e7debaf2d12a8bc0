"""Source IPs: add, change, drain, quarantine, remove."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, transaction

from deliverability.ips.models import IpAddress, IpPool
from deliverability.ips.recording import changes, record_change, require_operator
from esp.lib.errors import Conflict, InvalidInput
from tenants.accounts.models import User

_HOST_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
MAX_WEIGHT = 1000
_Status = IpAddress.Status


@dataclass(frozen=True, slots=True)
class AddressFields:
    """What an operator says about a source IP beside the address itself."""

    ehlo_name: str
    pool: IpPool
    status: str = IpAddress.Status.ACTIVE
    status_reason: str = ""
    weight: int = 1
    node: str = ""
    place: str = ""


def add_address(*, operator: User, address: str, fields: AddressFields) -> IpAddress:
    """Add a source IP. Raises InvalidInput."""
    require_operator(operator)
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError as error:
        raise InvalidInput("This is not an IP address.", field="address") from error
    if parsed.is_multicast or parsed.is_unspecified:
        raise InvalidInput("Mail cannot leave from this address.", field="address")
    row = IpAddress(address=str(parsed))
    _apply(row, fields)
    try:
        with transaction.atomic():
            row.save()
    except IntegrityError as error:
        raise InvalidInput("This address is in a pool already.", field="address") from error
    record_change(operator, "ips.add_address", row.address, **_facts(row))
    return row


def update_address(*, operator: User, row: IpAddress, fields: AddressFields) -> None:
    """Change what is known about an address, drain it, quarantine it or switch it off.

    A draining address takes no new message; what it has in hand goes out. A quarantined one takes
    none either, and the reason stands beside it. Raises InvalidInput.
    """
    require_operator(operator)
    before = _facts(row)
    _apply(row, fields)
    changed = changes(before, _facts(row))
    if not changed:
        return
    if "ehlo_name" in changed:  # what was checked was the other name
        row.ptr_checked_at, row.ptr_problem = None, ""
    row.save()
    record_change(operator, "ips.update_address", row.address, **changed)


def remove_address(*, operator: User, row: IpAddress) -> None:
    """Remove an address that is switched off. Raises Conflict."""
    require_operator(operator)
    deleted, _ = IpAddress.objects.filter(pk=row.pk, status=_Status.OFF).delete()
    if not deleted:
        raise Conflict("Switch the address off first: a worker may have messages for it in hand.")
    record_change(operator, "ips.remove_address", row.address)


def _facts(row: IpAddress) -> dict[str, Any]:
    return {
        "ehlo_name": row.ehlo_name,
        "pool": row.pool.name,
        "status": str(row.status),
        "status_reason": row.status_reason,
        "weight": row.weight,
        "node": row.node,
        "place": row.place,
    }


def _apply(row: IpAddress, fields: AddressFields) -> None:
    if fields.status not in _Status.values:
        raise InvalidInput("Choose a status from the list.", field="status")
    reason = " ".join(fields.status_reason.split())[:300]
    if fields.status == _Status.QUARANTINED and not reason:
        raise InvalidInput("Say why the address is quarantined.", field="status_reason")
    if not 1 <= fields.weight <= MAX_WEIGHT:
        raise InvalidInput(f"A weight is 1 to {MAX_WEIGHT:,}.", field="weight")
    row.ehlo_name = _clean_host(fields.ehlo_name)
    row.pool = fields.pool
    row.status = fields.status
    row.status_reason = "" if fields.status == _Status.ACTIVE else reason
    row.weight = fields.weight
    row.node = _clean_node(fields.node)
    row.place = " ".join(fields.place.split())[:60]


def _clean_host(name: str) -> str:
    """Return a host name in lower case; raises InvalidInput (RFC 5321 section 4.1.1.1)."""
    name = name.strip().rstrip(".").lower()
    labels = name.split(".")
    if len(labels) < 2 or len(name) > 253 or not all(_HOST_LABEL.fullmatch(x) for x in labels):
        raise InvalidInput(
            "Give a full host name such as out1.mail.example.com.", field="ehlo_name"
        )
    return name


def _clean_node(name: str) -> str:
    name = name.strip()
    if name and not _NODE.fullmatch(name):
        raise InvalidInput(
            "A node is named by letters, digits, dots, hyphens and underscores.", field="node"
        )
    return name
