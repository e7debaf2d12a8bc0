"""The hosts that run delivery workers, and their signs of life.

A node that has given none for `DELIVERY_NODE_DEAD_SECONDS` counts as dead: its addresses cannot
send, so their pool's mail moves to the overflow pool or waits.
"""

from __future__ import annotations

import datetime as dt

from django.conf import settings
from django.utils import timezone

from deliverability.ips.models import DeliveryNode


def this_node() -> str:
    """Return the name of the node that this process runs on."""
    return str(settings.DELIVERY_NODE)


def beat(node: str) -> None:
    """Note that `node` lives; one short statement, from a thread that may ask the database."""
    now = timezone.now()
    DeliveryNode.objects.bulk_create(
        [DeliveryNode(name=node, seen_at=now)],
        update_conflicts=True,
        unique_fields=["name"],
        update_fields=["seen_at"],
    )


def dead_before(now: dt.datetime) -> dt.datetime:
    """Return the time since when a node must have been seen to count as live at `now`."""
    return now - dt.timedelta(seconds=settings.DELIVERY_NODE_DEAD_SECONDS)


def is_alive(node: DeliveryNode, now: dt.datetime) -> bool:
    """Tell whether `node` can send at `now`: seen lately, and not draining."""
    return not node.is_draining and node.seen_at >= dead_before(now)
