"""Where delivery tasks are sent: each node's worker has a queue of its own beside the shared one.

Mail leaves from addresses, and addresses belong to nodes. A task in the shared queue may be taken
by a node that has nothing to send, so each worker also serves `stream@node` and says in Valkey, as
long as it lives, how many processes it has there. Where nobody says so, the shared queue is used.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any, cast

import redis
from celery.signals import celeryd_after_setup, worker_shutting_down

from deliverability.ips.nodes import this_node
from esp.kit.valkey import client
from sending.dispatch.jobs import DELIVER

log = logging.getLogger(__name__)

_SAY_EVERY_SECONDS = 5.0
_ALIVE_SECONDS = 20.0

# Streams whose queue of this node is served by this process or the one that it was forked from.
_served_here: set[str] = set()


def queue_of(stream: str, node: str) -> str:
    """Return the name of the queue for `stream` on `node`; the shared one for ""."""
    return f"{stream}@{node}" if node else stream


def own_queue(stream: str) -> str:
    """Return where a task of this process goes on: to its node, if that has a queue here."""
    return queue_of(stream, this_node() if stream in _served_here else "")


def _key(stream: str) -> str:
    return f"mw:posts:{stream}"


def _now() -> float:
    """Return Valkey's time: hosts' clocks may differ by more than a worker may be silent."""
    seconds, micros = client().time()
    return seconds + micros / 1e6


def announce(stream: str, *, worker: str, processes: int) -> None:
    """Say that `worker` (unique) serves this node's queue of `stream` with so many processes."""
    try:
        client().zadd(_key(stream), {f"{processes}|{worker}|{this_node()}": _now()})
    except redis.RedisError as error:
        log.warning("a worker could not say that it is there: %s", error)


def withdraw(stream: str, *, worker: str, processes: int) -> None:
    """Say that `worker` serves it no more."""
    try:
        client().zrem(_key(stream), f"{processes}|{worker}|{this_node()}")
    except redis.RedisError as error:
        log.warning("a worker could not say that it goes: %s", error)


def processes_by_node(stream: str) -> dict[str, int]:
    """Return how many processes each node has for `stream`; nothing when Valkey does not answer."""
    found: Counter[str] = Counter()
    try:
        client().zremrangebyscore(_key(stream), "-inf", _now() - _ALIVE_SECONDS)
        for name in cast(list[bytes], client().zrange(_key(stream), 0, -1)):
            processes, _, node = name.decode().split("|", 2)
            found[node] += int(processes)
    except redis.RedisError as error:
        log.warning("the nodes' workers cannot be counted: %s", error)
        return {}
    return dict(found)


class _Post:
    """One worker's own queues, and the thread that says that it serves them."""

    def __init__(self, streams: Iterable[str], *, worker: str, processes: int) -> None:
        self._streams = tuple(streams)
        self._worker = worker
        self._processes = processes
        self._ends = threading.Event()
        threading.Thread(target=self._say_on, name="delivery-post", daemon=True).start()

    def _say_on(self) -> None:
        while True:
            for stream in self._streams:
                announce(stream, worker=self._worker, processes=self._processes)
            if self._ends.wait(_SAY_EVERY_SECONDS):
                break
        for stream in self._streams:
            withdraw(stream, worker=self._worker, processes=self._processes)

    def end(self) -> None:
        """Withdraw; the thread does it, because signal handlers must not wait."""
        self._ends.set()


_posts: list[_Post] = []


@celeryd_after_setup.connect
def serve_own_queues(sender: str, instance: Any, **_: Any) -> None:
    """Let a worker of the shared queues serve those of its node, too, whatever its command says."""
    queues = instance.app.amqp.queues
    streams = sorted(set(DELIVER) & set(queues.consume_from))
    if not streams:
        return
    for stream in streams:
        queues.select_add(queue_of(stream, this_node()))
    _served_here.update(streams)
    processes = int(instance.concurrency or 1)
    _posts.append(_Post(streams, worker=sender, processes=processes))


@worker_shutting_down.connect
def leave_own_queues(**_: Any) -> None:
    """Take no more tasks for this node: it would be too late for their mail."""
    for post in _posts:
        post.end()
