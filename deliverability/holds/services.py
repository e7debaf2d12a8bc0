"""Placing and lifting holds. Messages wait while one is in force; claims leave them out."""

from __future__ import annotations

import datetime as dt
import uuid

from django.db.models import F, Q
from django.db.models.functions import Greatest
from django.utils import timezone

from deliverability.holds.models import SendingHold
from esp.lib.errors import Conflict, InvalidInput, NotFound
from esp.lib.ids import to_public
from tenants.accounts.models import User
from tenants.audit.services import record
from tenants.directory.actor import operator_actor
from tenants.directory.models import Tenant
from tenants.scoping.context import scope

_DOUBLE_CLICK = dt.timedelta(seconds=5)
_STREAMS = ("", "transactional", "broadcast")


def place_rule_hold(
    *,
    tenant_id: uuid.UUID,
    batch_id: uuid.UUID | None,
    reason: str,
    rule: str,
    until: dt.datetime | None,
) -> bool:
    """Hold a batch, or with None the tenant, because of a shaping rule; returns whether it is new.

    Where the rule's hold is in force already, it is made longer.
    """
    now = timezone.now()
    with scope(tenant_id):
        in_force = SendingHold.objects.select_for_update().filter(
            Q(until=None) | Q(until__gt=now), batch_ref=batch_id, rule=rule, lifted_at=None
        )
        if in_force.exists():
            if until is None:
                in_force.update(until=None)
            else:
                in_force.exclude(until=None).update(until=Greatest(F("until"), until))
            return False
        SendingHold.objects.create(
            batch_ref=batch_id, reason=reason[:300], rule=rule[:60], until=until
        )
    return True


def place_hold(
    *,
    operator: User,
    tenant: Tenant,
    reason: str,
    batch_id: uuid.UUID | None = None,
    batch_name: str = "",
    stream: str = "",
    until: dt.datetime | None = None,
) -> SendingHold:
    """Hold a tenant's mail, one stream of it or one batch, until a time or until it is lifted.

    `batch_name` is what people know the batch by, for the audit log.

    The same hold placed again within seconds is a double click: the first is returned. Raises
    InvalidInput, and NotFound for who is no operator.
    """
    _require_operator(operator)
    reason = " ".join(reason.split())
    if not reason:
        raise InvalidInput("Say why: the tenant reads it.", field="reason")
    if len(reason) > 300:
        raise InvalidInput("Keep the reason below 300 characters.", field="reason")
    if stream not in _STREAMS:
        raise InvalidInput("Choose a stream from the list.", field="stream")
    if until is not None and until <= timezone.now():
        raise InvalidInput("The end must lie in the future.", field="until")
    with scope(tenant.pk):
        same = SendingHold.objects.filter(
            batch_ref=batch_id, stream=stream, reason=reason, rule="", lifted_at=None,
            created_at__gte=timezone.now() - _DOUBLE_CLICK,
        )  # fmt: skip
        if found := same.first():
            return found
        hold = SendingHold.objects.create(
            batch_ref=batch_id, stream=stream, reason=reason, until=until
        )
        detail = {
            "reason": reason,
            **_batch_detail(batch_id, batch_name),
            "stream": stream,
            "until": until.isoformat() if until else "",
        }
        record(
            operator_actor(operator, tenant.pk),
            "holds.place",
            target=f"{tenant.name}: {batch_name}" if batch_name else tenant.name,
            detail={name: value for name, value in detail.items() if value},
        )
    return hold


def _batch_detail(batch_id: uuid.UUID | None, batch_name: str) -> dict[str, str]:
    """Return which batch it is: its name for people, its id as commands and limits take it."""
    name = {"campaign": batch_name} if batch_name else {}
    return name | {"batch": to_public("bat", batch_id)} if batch_id is not None else {}


def lift_hold(*, operator: User, hold: SendingHold, batch_name: str = "") -> None:
    """Let the held mail go on. Raises Conflict where the hold has been lifted already.

    `batch_name` is what people know the hold's batch by, for the audit log.
    """
    _require_operator(operator)
    with scope(hold.tenant_id):
        changed = SendingHold.objects.filter(pk=hold.pk, lifted_at=None).update(
            lifted_at=timezone.now(), lifted_by=operator.email
        )
        if not changed:
            raise Conflict("This hold has been lifted already.")
        record(
            operator_actor(operator, hold.tenant_id),
            "holds.lift",
            target=f"{hold.public_id} on {batch_name}" if batch_name else hold.public_id,
            detail={"reason": hold.reason, **_batch_detail(hold.batch_ref, batch_name)},
        )


def _require_operator(operator: User) -> None:
    if not operator.is_operator:
        raise NotFound("There is nothing at this address.")
