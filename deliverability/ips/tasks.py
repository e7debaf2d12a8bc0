"""The room's tasks, and the sign of life that a delivery worker gives while it runs."""

from __future__ import annotations

from typing import Any

from celery import shared_task
from celery.signals import worker_ready

from deliverability.ips import jobs
from deliverability.ips.heartbeat import start_heartbeat
from deliverability.ips.services import check_addresses, check_nodes

_DELIVERY_QUEUES = {"transactional", "broadcast"}


@shared_task(name=jobs.CHECK_PTR)
def check_ptr_records() -> None:
    """Check every address's name in DNS."""
    check_addresses()


@shared_task(name=jobs.CHECK_NODES)
def watch_nodes() -> None:
    """Tell operators about nodes that have died."""
    check_nodes()


@worker_ready.connect
def begin_heartbeat(sender: Any, **_: Any) -> None:
    """Let this node be seen from the start of a delivery worker on, whether it has mail or not."""
    if _DELIVERY_QUEUES & set(sender.app.amqp.queues.consume_from):
        start_heartbeat()
