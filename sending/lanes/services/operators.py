"""What operators do with lanes and limits; each verb leaves an audit line in the lane as well.

It reaches every worker within ten seconds, when they load limits and closed lanes anew.
"""

from __future__ import annotations

import datetime as dt
import logging
import math
import uuid
from dataclasses import fields
from itertools import pairwise
from typing import Any

import redis
from django.db import transaction
from django.utils import timezone

from esp.kit.valkey import client
from esp.lib.errors import Conflict, InvalidInput, NotFound
from sending.lanes.grants import state_key
from sending.lanes.models import LaneState, LimitOverride, ShapingAction
from sending.lanes.selectors import address_of, quota_of
from sending.lanes.types import Quota
from tenants.accounts.models import User
from tenants.audit.services import record
from tenants.directory.actor import operator_actor
from tenants.directory.services import get_or_create_system_tenant

log = logging.getLogger(__name__)

# A limit above these is a slip of the keyboard, and some would not fit the database's numbers.
_MOST = {
    "connections": 10_000,
    "messages_per_connection": 100_000,
    "connections_per_minute": 100_000,
    "per_second": 100_000,
    "per_minute": 10_000_000,
    "per_hour": 1_000_000_000,
    "per_day": 2_000_000_000,
}
_DOUBLE_CLICK = dt.timedelta(seconds=5)
_ONLY_LANES = ("messages_per_connection", "connections_per_minute")
_NAMES = {
    "connections": "connections",
    "messages_per_connection": "messages a connection",
    "connections_per_minute": "new connections a minute",
    "per_second": "messages a second",
    "per_minute": "messages a minute",
    "per_hour": "messages an hour",
    "per_day": "messages a day",
}


def set_limit(*, operator: User, scope: str, key: str, quota: Quota, note: str = "") -> None:
    """Set limits in place of the defaults; fields of `quota` that are None leave those.

    `key` by scope: "" (global), a site, "source_id|site", a domain, a tenant's or batch's id.
    Raises InvalidInput with the field at fault.
    """
    _require_operator(operator)
    key = clean_key(scope, key)
    values = {entry.name: getattr(quota, entry.name) for entry in fields(Quota)}
    if all(value is None for value in values.values()):
        raise InvalidInput("Enter at least one limit.", field="connections")
    for name, value in values.items():
        _check(scope, name, value)
    _check_order(quota)
    with transaction.atomic():
        row, is_new = LimitOverride.objects.select_for_update().get_or_create(scope=scope, key=key)
        before = {} if is_new else _set_values(quota_of(row))
        for name, value in values.items():
            setattr(row, name, value)
        row.note = " ".join(note.split())[:300]
        row.save()
        after = _set_values(quota)
        text = "; ".join(f"{_NAMES[name]}: {value:g}" for name, value in after.items())
        _note(operator, "limit", scope, key, text)
        _record(operator, "lanes.set_limit", f"{scope} {key}".strip(), before=before, after=after)


def clear_limit(*, operator: User, scope: str, key: str) -> None:
    """Go back to the defaults. Raises NotFound where nothing was set."""
    _require_operator(operator)
    with transaction.atomic():
        deleted, _ = LimitOverride.objects.filter(scope=scope, key=key).delete()
        if not deleted:
            raise NotFound("No limit is set here.")
        _note(operator, "limit", scope, key, "back to the defaults")
        _record(operator, "lanes.clear_limit", f"{scope} {key}".strip())


def pause_lane(*, operator: User, source_id: str, site: str, reason: str) -> None:
    """Stop a lane until it is resumed. Raises InvalidInput, and Conflict when it is paused."""
    _require_operator(operator)
    reason = " ".join(reason.split())
    if not reason:
        raise InvalidInput("Say why: it stands on the lane's page.", field="reason")
    with transaction.atomic():
        row, _ = LaneState.objects.get_or_create(source_id=source_id, site=site)
        changed = LaneState.objects.filter(pk=row.pk, is_paused=False).update(
            is_paused=True, paused_reason=reason[:300], updated_at=timezone.now()
        )
        if not changed:
            raise Conflict("The lane is paused already.")
        _note_lane(operator, "pause", source_id, site, reason)
        _record(operator, "lanes.pause", _name(source_id, site), reason=reason[:300])


def resume_lane(*, operator: User, source_id: str, site: str) -> None:
    """Open a paused lane. Raises Conflict when it is not paused."""
    _require_operator(operator)
    with transaction.atomic():
        changed = LaneState.objects.filter(source_id=source_id, site=site, is_paused=True).update(
            is_paused=False, paused_reason="", updated_at=timezone.now()
        )
        if not changed:
            raise Conflict("The lane is not paused.")
        _note_lane(operator, "resume", source_id, site, "")
        _record(operator, "lanes.resume", _name(source_id, site))


def lift_suspension(*, operator: User, source_id: str, site: str) -> None:
    """End a suspension by a shaping rule before its time. Raises Conflict when there is none."""
    _require_operator(operator)
    now = timezone.now()
    with transaction.atomic():
        changed = LaneState.objects.filter(
            source_id=source_id, site=site, suspended_until__gt=now
        ).update(suspended_until=None, suspended_rule="", suspended_reason="", updated_at=now)
        if not changed:
            raise Conflict("The lane is not suspended.")
        _note_lane(operator, "lift", source_id, site, "")
        _record(operator, "lanes.lift", _name(source_id, site))
        transaction.on_commit(lambda: forget_reactions(source_id, site))


def forget_reactions(source_id: str, site: str) -> None:
    """Take a lane's reactions out of Valkey; without it they end at their own time."""
    try:
        client().delete(state_key(f"lane:{source_id}|{site}"))
    except redis.RedisError as error:
        log.warning("the lane's reactions stay in Valkey until they end: %s", error)


def note_queue_action(
    *, operator: User, action: str, source_id: str, site: str, detail: str
) -> bool:
    """Leave the audit lines of what was done with the messages of a lane.

    Returns whether it is to be done: the same by the same person within seconds is a double click.
    """
    _require_operator(operator)
    with transaction.atomic():
        # Two clicks at once: the second waits for the first, and then sees its line.
        list(LaneState.objects.select_for_update().filter(source_id=source_id, site=site))
        again = ShapingAction.objects.filter(
            source_id=source_id, site=site, action=action[:20], title=detail[:200],
            actor=operator.email, at__gte=timezone.now() - _DOUBLE_CLICK,
        )  # fmt: skip
        if again.exists():
            return False
        _note_lane(operator, action, source_id, site, detail)
        _record(operator, f"lanes.{action}", _name(source_id, site), detail=detail[:300])
    return True


def clean_key(scope: str, key: str) -> str:
    """Return a limit's key as it is stored. Raises InvalidInput."""
    if scope not in LimitOverride.Scope.values:
        raise InvalidInput("Choose what to limit from the list.", field="scope")
    key = key.strip()
    if scope == "global":
        return ""
    if not key or len(key) > 255 or not key.isprintable():
        raise InvalidInput("Say what the limit is for.", field="key")
    if scope in ("tenant", "batch"):
        try:
            return str(uuid.UUID(key))
        except ValueError as error:
            raise InvalidInput("Choose a tenant or campaign that exists.", field="key") from error
    if scope == "domain":
        try:
            key = key.rstrip(".").lower().encode("idna").decode()
        except UnicodeError as error:
            raise InvalidInput("Give a domain such as example.com.", field="key") from error
        if "." not in key or "@" in key or " " in key:
            raise InvalidInput("Give a domain such as example.com.", field="key")
    if scope == "lane" and key.count("|") != 1:
        raise InvalidInput("A lane is a source and a site.", field="key")
    return key


def _check(scope: str, name: str, value: float | None) -> None:
    if value is None:
        return
    words = _NAMES[name]
    if scope not in ("lane", "site") and name in _ONLY_LANES:
        raise InvalidInput(f"A limit of {words} is for lanes and sites only.", field=name)
    if not math.isfinite(value) or value <= 0:
        raise InvalidInput(f"The limit of {words} must be above zero.", field=name)
    if value > _MOST[name]:
        raise InvalidInput(f"The limit of {words} can be {_MOST[name]:,} at most.", field=name)
    if name == "per_second" and value < 0.01:
        raise InvalidInput("Below one in 100 seconds, limit the hour instead.", field=name)


def _check_order(quota: Quota) -> None:
    """A longer span must not allow less than the shorter one alone would need once."""
    spans = [
        (name, value)
        for name in ("per_minute", "per_hour", "per_day")
        if (value := getattr(quota, name)) is not None
    ]
    for (short, low), (long, high) in pairwise(spans):
        if high < low:
            raise InvalidInput(
                f"{_NAMES[long].capitalize()} cannot be fewer than {_NAMES[short]}.", field=long
            )


def _set_values(quota: Quota) -> dict[str, float]:
    values = {entry.name: getattr(quota, entry.name) for entry in fields(Quota)}
    return {name: value for name, value in values.items() if value is not None}


def _note(operator: User, action: str, scope: str, key: str, text: str) -> None:
    source_id, site = "", ""
    tenant = batch = None
    if scope == "lane":
        source_id, site = key.split("|", 1)
    elif scope == "site":
        site = key
    elif scope == "tenant":
        tenant = uuid.UUID(key)
    elif scope == "batch":
        batch = uuid.UUID(key)
    title = text if scope in ("lane", "site") else f"{scope} {key}: {text}"
    ShapingAction.objects.create(
        at=timezone.now(),
        action=action,
        title=title[:200],
        source_id=source_id,
        source_address=_address(source_id),
        site=site,
        tenant_ref=tenant,
        batch_ref=batch,
        actor=operator.email,
    )


def _note_lane(operator: User, action: str, source_id: str, site: str, text: str) -> None:
    ShapingAction.objects.create(
        at=timezone.now(),
        action=action[:20],
        title=text[:200],
        source_id=source_id,
        source_address=_address(source_id),
        site=site,
        actor=operator.email,
    )


def _address(source_id: str) -> str:
    found = address_of(source_id) if source_id else ""
    return found if found not in ("unbound", "removed") else ""


def _name(source_id: str, site: str) -> str:
    return f"{address_of(source_id)} to {site}"


def _record(operator: User, action: str, target: str, **detail: Any) -> None:
    actor = operator_actor(operator, get_or_create_system_tenant().pk)
    record(actor, action, target=target[:200], detail=detail)


def _require_operator(operator: User) -> None:
    if not operator.is_operator:
        raise NotFound("There is nothing at this address.")
