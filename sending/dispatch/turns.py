"""Whose turn it is: which batches a claim asks, and for how many messages each.

Tenants share by weight, whatever each of them has waiting; inside a tenant the batches of the
highest priority come first and share evenly.
"""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection

# Batches that are asked in one claim; with more, chance decides and the next claim serves others.
MOST = 64
_NO_TIME = dt.timedelta(0)


@dataclass(frozen=True, slots=True)
class Ready:
    """A batch that has due mail and may send."""

    batch_id: uuid.UUID
    tenant_id: uuid.UUID
    weight: int  # of the tenant
    priority: int  # of the batch, within the tenant
    has_passed: bool = False  # it has mail that was passed on to the node that asks


# One look into the index for each batch: an EXISTS would be joined, by a walk through the whole
# queue at every claim.
_READY = """
SELECT batch.id, batch.tenant_id, tenant.weight, batch.priority,
       (SELECT true FROM sending_queueentry entry
        WHERE entry.batch_id = batch.id AND {passed} ORDER BY entry.passed_to LIMIT 1) IS NOT NULL
FROM sending_batch batch
JOIN tenants_tenant tenant ON tenant.id = batch.tenant_id AND tenant.status = 'active'
CROSS JOIN LATERAL (
    (SELECT FROM sending_queueentry entry
     WHERE entry.batch_id = batch.id AND entry.due_at <= %(due)s ORDER BY entry.due_at LIMIT 1)
    UNION ALL
    (SELECT FROM sending_queueentry entry
     WHERE entry.batch_id = batch.id AND {passed} ORDER BY entry.passed_to LIMIT 1)
    LIMIT 1
) due
WHERE batch.status = 'running' AND batch.stream = %(stream)s
  AND NOT EXISTS (
      SELECT 1 FROM deliverability_sendinghold hold
      WHERE hold.tenant_id = batch.tenant_id
        AND (hold.batch_ref IS NULL OR hold.batch_ref = batch.id)
        AND hold.stream IN ('', batch.stream)
        AND hold.lifted_at IS NULL AND (hold.until IS NULL OR hold.until > %(now)s))
"""


_PASSED = "entry.passed_to > '' AND (entry.worker = '' OR entry.due_at <= %(now)s)"
_READY_ANYWHERE = _READY.format(passed=_PASSED)
_READY_HERE = _READY.format(passed=f"entry.passed_to = %(node)s AND {_PASSED}")


def ready_batches(
    stream: str, now: dt.datetime, *, node: str = "", ahead: dt.timedelta = _NO_TIME
) -> list[Ready]:
    """Return the batches of `stream` that have mail due `ahead` from now, unless held or paused.

    Also those with mail that was passed on to `node`, or to any node.
    """
    with connection.cursor() as cursor:
        statement = _READY_HERE if node else _READY_ANYWHERE
        params: dict[str, Any] = {"stream": stream, "now": now, "due": now + ahead, "node": node}
        cursor.execute(statement, params)
        return [Ready(*row) for row in cursor.fetchall()]


def allot(ready: Sequence[Ready], limit: int, rng: random.Random) -> dict[uuid.UUID, int]:
    """Return how many messages to ask of each batch, `limit` in all and at least one each.

    With more tenants than `limit`, the heavier ones are the likelier to get a turn now.
    """
    by_tenant: dict[uuid.UUID, list[Ready]] = defaultdict(list)
    for one in ready:
        by_tenant[one.tenant_id].append(one)
    first = {tenant: _first(batches) for tenant, batches in by_tenant.items()}
    weights = {tenant: max(1, batches[0].weight) for tenant, batches in first.items()}
    # A draw without putting back, by weight (Efraimidis and Spirakis, 2006).
    drawn = sorted(weights, key=lambda tenant: rng.expovariate(1.0) / weights[tenant])
    drawn = drawn[: min(limit, MOST)]
    shares = _split(limit, {tenant: weights[tenant] for tenant in drawn})
    found: dict[uuid.UUID, int] = {}
    for tenant in drawn:
        batches = first[tenant]
        rng.shuffle(batches)
        batches = batches[: max(1, min(shares[tenant], MOST // len(drawn)))]
        found |= _split(shares[tenant], {one.batch_id: 1 for one in batches})
    return found


def _first(batches: list[Ready]) -> list[Ready]:
    highest = max(one.priority for one in batches)
    return [one for one in batches if one.priority == highest]


def _split(total: int, weights: Mapping[uuid.UUID, int]) -> dict[uuid.UUID, int]:
    """Return whole shares of `total` in proportion to `weights`, in their order, none below 1."""
    left, of = total, sum(weights.values())
    shares = {}
    for key, weight in weights.items():
        shares[key] = max(1, round(left * weight / of)) if left > 0 else 1
        left -= shares[key]
        of -= weight
    return shares
