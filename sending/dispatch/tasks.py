"""The dispatch room's tasks: slices of delivery, and the sweeps that find what wake-ups lost."""

from __future__ import annotations

import atexit
from functools import lru_cache

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from esp.kit.jobs import enqueue_now
from esp.kit.partitions import ensure_partitions
from esp.kit.stopping import is_stopping
from sending.dispatch import jobs, posts, pumps
from sending.dispatch.claims import has_due
from sending.dispatch.passing import take_back
from sending.dispatch.results import expire_overdue
from sending.dispatch.worker import DeliveryWorker, give_way

# What no worker has taken by then is started anew, if there is still need of it.
_TAKE_SECONDS = 30.0


@lru_cache(maxsize=2)
def _worker(stream: str) -> DeliveryWorker:
    worker = DeliveryWorker(stream, lingers=stream == "transactional")
    if stream == "broadcast":
        give_way()
    atexit.register(worker.close)
    return worker


def _deliver(stream: str) -> None:
    worker = _worker(stream)
    pumps.beat(stream, worker.name, seconds=settings.DELIVERY_SLICE_SECONDS)
    summary = worker.run_slice()
    if summary.is_idle or is_stopping():
        pumps.end(stream, worker.name)
    if not summary.is_idle:
        # While we stop, too: it wakes whoever comes next.
        enqueue_now(jobs.DELIVER[stream], queue=posts.own_queue(stream))


@shared_task(name=jobs.DELIVER_TRANSACTIONAL)
def deliver_transactional() -> None:
    """Deliver transactional messages for a slice, and go on while there are some."""
    _deliver("transactional")


@shared_task(name=jobs.DELIVER_BROADCAST)
def deliver_broadcast() -> None:
    """Deliver broadcast messages for a slice, and go on while there are some."""
    _deliver("broadcast")


@shared_task(name=jobs.WAKE)
def wake() -> None:
    """Start the delivery tasks that are missing for due messages, on each node its own."""
    now = timezone.now()
    take_back(now)
    for stream, job in jobs.DELIVER.items():
        if not has_due(stream, now):
            continue
        wanted = posts.processes_by_node(stream) or {"": settings.DELIVERY_PUMPS}
        for node, processes in wanted.items():
            for _ in range(processes - pumps.alive(stream, node)):
                enqueue_now(job, queue=posts.queue_of(stream, node), expires=_TAKE_SECONDS)


@shared_task(name=jobs.EXPIRE)
def expire() -> None:
    """End messages whose life is over."""
    while expire_overdue(now=timezone.now()) >= 5000:
        pass


@shared_task(name=jobs.PARTITIONS)
def make_partitions() -> None:
    """Make the tables of the months to come."""
    ensure_partitions(timezone.now().date())
