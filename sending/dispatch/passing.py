"""Mail that this node has no room for, passed on to the next that has an address for it.

Within a node the engine tries a full pool's overflow in the same delivery. An address of another
node can only be used there: so the message goes back to the queue with that node's name, which may
take it at once, while it is due again here when there is room here. Whoever takes it leases it like
any other message.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from django.db import connection, transaction

from deliverability.ips.selectors import living_nodes
from sending.dispatch.claims import Job
from sending.engine.ports import Deliver, Order, Outcome
from sending.messages.causes import PASSED_ON

# What ends sooner is waited for: passing on takes some seconds, too, and who only waits for his
# turn in a lane that flows asks again within ten.
WORTH_SECONDS = 30.0
# Of a lane: another address may have room. Limits of a tenant, campaign or domain hold everywhere.
_OF_LANES = frozenset({"connections", "rate", "cap", "suspended", "paused", "quarantine"})


@dataclass(slots=True)
class JobOrder(Order):
    """An order with the job that it was made of."""

    job: Job | None = None


class Passing:
    """A `Deliver` that marks what another node may take; `next_node` says which, "" for none."""

    def __init__(self, inner: Deliver, *, next_node: Callable[[Job], str]) -> None:
        self._inner = inner
        self._next_node = next_node

    def is_leaving(self, order: Order) -> bool:
        """Tell whether any of the content of `order` may have left."""
        return self._inner.is_leaving(order)

    def deliver(self, order: Order) -> Awaitable[Outcome]:
        """Try once to deliver; without a further node nothing is done beside that."""
        if isinstance(order, JobOrder) and order.job is not None:
            node = self._next_node(order.job)
            if node:
                return self._deliver(order, order.job, node)
        return self._inner.deliver(order)

    async def _deliver(self, order: Order, job: Job, node: str) -> Outcome:
        outcome = await self._inner.deliver(order)
        if not is_worth_passing(outcome):
            return outcome
        job.passed_to = node
        text = f"{outcome.text[: 260 - len(node)]} The host {node} may take it before that."
        return replace(outcome, hold=PASSED_ON, text=text)


def is_worth_passing(outcome: Outcome) -> bool:
    """Tell whether nothing was tried and no lane of ours has room for a while."""
    return (
        outcome.phase == "throttle"
        and outcome.hold in _OF_LANES
        and not outcome.route
        and (outcome.retry_after_seconds or 0.0) >= WORTH_SECONDS
    )


# By the index of what is passed on, however long the queue is and whatever is known of it.
_TAKE_BACK = """
UPDATE sending_queueentry SET due_at = %(now)s, passed_to = '', hold = '', reason = ''
WHERE message_id = ANY(ARRAY(
    SELECT message_id FROM sending_queueentry
    WHERE passed_to <> '' AND passed_to <> ALL(%(alive)s) AND worker = ''
    LIMIT %(most)s FOR UPDATE SKIP LOCKED))
"""


def take_back(now: dt.datetime, *, most: int = 5000) -> int:
    """Make due what was passed on to nodes that are dead or draining; return how many.

    Its own node then finds another for it, or lets it wait with the reason.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(_TAKE_BACK, {"now": now, "alive": living_nodes(now), "most": most})
        return int(cursor.rowcount)
