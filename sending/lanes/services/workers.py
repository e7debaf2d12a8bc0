"""What delivery workers hand to the database: counts of lanes, and reactions as audit lines."""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from collections import defaultdict
from collections.abc import Sequence

from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from deliverability.holds.services import place_rule_hold
from esp.lib.ids import new_id
from sending.lanes.models import ShapingAction
from sending.lanes.types import Action, LaneCount, LimitCount
from tenants.directory.models import Tenant

log = logging.getLogger(__name__)

# Lanes are written in the order of their keys, so that two workers cannot wait for each other.
_ADD = """
INSERT INTO sending_lanestate AS state
    (id, source_id, site, is_paused, paused_reason, suspended_rule, suspended_reason, concurrency,
     hour, sent_hour, day, sent_day, delivered, deferred, bounced, last_reply, last_used_at,
     updated_at)
SELECT id, source_id, site, false, '', '', '', concurrency, hour, sent,
       (hour AT TIME ZONE 'UTC')::date, sent, delivered, deferred, bounced, reply, used_at, %s
FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::float[], %s::timestamptz[], %s::int[],
            %s::int[], %s::int[], %s::int[], %s::text[], %s::timestamptz[])
     AS row (id, source_id, site, concurrency, hour, sent, delivered, deferred, bounced, reply,
             used_at)
ORDER BY source_id, site
ON CONFLICT (source_id, site) DO UPDATE SET
    sent_hour = CASE WHEN state.hour = excluded.hour THEN state.sent_hour + excluded.sent_hour
                     WHEN state.hour > excluded.hour THEN state.sent_hour
                     ELSE excluded.sent_hour END,
    sent_day = CASE WHEN state.day = excluded.day THEN state.sent_day + excluded.sent_day
                    WHEN state.day > excluded.day THEN state.sent_day
                    ELSE excluded.sent_day END,
    hour = greatest(state.hour, excluded.hour),
    day = greatest(state.day, excluded.day),
    concurrency = excluded.concurrency,
    delivered = state.delivered + excluded.delivered,
    deferred = state.deferred + excluded.deferred,
    bounced = state.bounced + excluded.bounced,
    last_reply = CASE WHEN excluded.last_reply = '' THEN state.last_reply
                      ELSE excluded.last_reply END,
    last_used_at = greatest(state.last_used_at, excluded.last_used_at),
    updated_at = excluded.updated_at
"""


def add_counts(counts: Sequence[LaneCount]) -> None:
    """Add what one worker counted (`SharedThrottle.take_counts`) to the lanes' rows.

    Joins the running transaction. Raises DatabaseError; then put the counts back.
    """
    by_hour: dict[dt.datetime, list[LaneCount]] = defaultdict(list)
    for count in counts:
        by_hour[count.hour].append(count)
    for hour in sorted(by_hour):
        _add_hour(_merged(by_hour[hour]))


# Rows are locked in the order of their keys; a limit that is gone meanwhile counts nothing.
_ADD_TO_LIMITS = """
WITH told AS (
    SELECT scope, key, hour, sum(sent) AS sent
    FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::bigint[])
         AS row (scope, key, hour, sent)
    GROUP BY scope, key, hour
), here AS MATERIALIZED (
    SELECT state.id, told.hour, (told.hour AT TIME ZONE 'UTC')::date AS day, told.sent
    FROM sending_limitoverride state JOIN told USING (scope, key)
    ORDER BY state.scope, state.key FOR UPDATE OF state
)
UPDATE sending_limitoverride state SET
    sent_hour = CASE WHEN state.hour = here.hour THEN state.sent_hour + here.sent
                     WHEN state.hour > here.hour THEN state.sent_hour
                     ELSE here.sent END,
    sent_day = CASE WHEN state.day = here.day THEN state.sent_day + here.sent
                    WHEN state.day > here.day THEN state.sent_day
                    ELSE here.sent END,
    hour = greatest(state.hour, here.hour),
    day = greatest(state.day, here.day)
FROM here WHERE state.id = here.id
"""


def add_limit_counts(counts: Sequence[LimitCount]) -> None:
    """Add what one worker sent under limits (`SharedThrottle.take_limit_counts`) to their rows.

    Joins the running transaction. Raises DatabaseError; then put the counts back.
    """
    for hour in sorted({one.hour for one in counts}):
        told = [one for one in counts if one.hour == hour]
        rows = [(one.scope, one.key, one.hour, one.sent) for one in told]
        columns = [list(column) for column in zip(*rows, strict=True)]
        with connection.cursor() as cursor:
            cursor.execute(_ADD_TO_LIMITS, columns)


def _merged(counts: Sequence[LaneCount]) -> list[LaneCount]:
    """Return one entry a lane, in the order of keys: an upsert meets each row once."""
    found: dict[tuple[str, str], LaneCount] = {}
    for one in counts:
        key = (one.lane.source_id, one.lane.site)
        before = found.get(key)
        if before is None:
            found[key] = one
            continue
        found[key] = LaneCount(
            lane=one.lane,
            at=max(before.at, one.at),
            hour=one.hour,
            sent=before.sent + one.sent,
            delivered=before.delivered + one.delivered,
            deferred=before.deferred + one.deferred,
            bounced=before.bounced + one.bounced,
            last_reply=one.last_reply or before.last_reply,
            concurrency=one.concurrency,
        )
    return [found[key] for key in sorted(found)]


def _add_hour(counts: Sequence[LaneCount]) -> None:
    rows = [
        (
            new_id(), x.lane.source_id, x.lane.site, x.concurrency, x.hour, x.sent,
            x.delivered, x.deferred, x.bounced, x.last_reply.replace("\x00", ""), x.at,
        )
        for x in counts
    ]  # fmt: skip
    columns = [list(column) for column in zip(*rows, strict=True)]
    with connection.cursor() as cursor:
        cursor.execute(_ADD, [timezone.now(), *columns])


_SUSPEND = """
INSERT INTO sending_lanestate AS state
    (id, source_id, site, is_paused, paused_reason, suspended_until, suspended_rule,
     suspended_reason, concurrency, sent_hour, sent_day, delivered, deferred, bounced, last_reply,
     updated_at)
VALUES (%s, %s, %s, false, '', %s, %s, %s, 0, 0, 0, 0, 0, 0, '', %s)
ON CONFLICT (source_id, site) DO UPDATE SET
    suspended_until = excluded.suspended_until, suspended_rule = excluded.suspended_rule,
    suspended_reason = excluded.suspended_reason, updated_at = excluded.updated_at
WHERE state.suspended_until IS NULL OR state.suspended_until < excluded.suspended_until
"""


def write_actions(actions: Sequence[Action]) -> int:
    """Write reactions (`SharedThrottle.take_actions`): suspensions, holds, and their audit lines.

    One line a rule and lane (or tenant, batch) while it is in force, however many workers met it.
    Returns how many lines are new. Raises DatabaseError; then put the actions back.
    """
    written = 0
    for action in sorted(actions, key=lambda one: (one.lane.source_id, one.lane.site, one.rule)):
        with transaction.atomic():
            written += _write(action)
    return written


def _write(action: Action) -> bool:
    lane = action.lane
    site = lane.site
    tenant, batch = _uuid(action.tenant), _uuid(action.batch)
    # Workers that met the same rule at the same moment write one after the other.
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))",
            [f"action|{lane.source_id}|{site}|{action.rule}"],
        )
    if action.action in ("suspend", "other_source") and action.until is not None:
        reason = (action.title or action.reply)[:300]
        with connection.cursor() as cursor:
            cursor.execute(
                _SUSPEND,
                [new_id(), lane.source_id, site, action.until, action.rule[:60], reason, action.at],
            )
    is_hold = action.action in ("hold_batch", "hold_tenant")
    if is_hold and not (tenant is not None and _hold(action, tenant, batch)):
        return False
    if _is_in_force(action, site, tenant, batch):
        return False
    ShapingAction.objects.create(
        at=action.at,
        action=action.action,
        rule=action.rule[:60],
        title=action.title[:200],
        source_id=lane.source_id,
        source_address=action.source_address[:45],
        site=site,
        tenant_ref=tenant,
        batch_ref=batch,
        message_ref=action.message_id,
        reply=action.reply.replace("\x00", "")[:500],
        until=action.until,
    )
    return True


def _hold(action: Action, tenant: uuid.UUID, batch: uuid.UUID | None) -> bool:
    whole = action.action == "hold_tenant"
    if not whole and batch is None:
        return False
    reason = f"{action.title}: {action.reply}" if action.reply else action.title
    if not Tenant.objects.filter(pk=tenant).exists():
        log.warning("no hold for tenant %s: it is not there", tenant)
        return False
    return place_rule_hold(
        tenant_id=tenant,
        batch_id=None if whole else batch,
        reason=reason,
        rule=action.rule,
        until=action.until,
    )


def _is_in_force(
    action: Action, site: str, tenant: uuid.UUID | None, batch: uuid.UUID | None
) -> bool:
    same = ShapingAction.objects.filter(
        Q(until__gt=action.at), action=action.action, rule=action.rule[:60],
        source_id=action.lane.source_id, site=site, actor="",
    )  # fmt: skip
    if action.action == "hold_batch":
        same = same.filter(batch_ref=batch)
    elif action.action == "hold_tenant":
        same = same.filter(tenant_ref=tenant)
    lifted = ShapingAction.objects.filter(
        source_id=action.lane.source_id, site=site, action__in=("lift", "resume")
    ).order_by("-id")
    last = same.order_by("-id").values_list("at", flat=True).first()
    if last is None:
        return False
    lift = lifted.values_list("at", flat=True).first()
    return lift is None or lift < last


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
