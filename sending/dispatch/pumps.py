"""How many delivery tasks go round: each keeps itself going while there is work.

A pump is a task that starts itself again after its slice. Valkey counts the live ones (their last
sign of life) of each node, so that the scheduler adds only as many as are missing there; losing the
count costs a few superfluous tasks, which end when the queue is empty.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import cast

import redis
from django.conf import settings

from deliverability.ips.nodes import this_node
from esp.kit.valkey import client

log = logging.getLogger(__name__)

_ALIVE_SECONDS = 30.0


def _is_dead(worker: str) -> bool:
    """Tell whether the process in a worker's name (`host:pid:…`) ran here and does not any more."""
    host, _, rest = worker.partition(":")
    pid = rest.partition(":")[0]
    if host != socket.gethostname()[:30] or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _key(stream: str) -> str:
    return f"mw:pumps:{stream}"


def _name(worker: str) -> str:
    return f"{worker}@{this_node()}"


def beat(stream: str, worker: str, *, seconds: float = 0.0) -> None:
    """Note that the pump in `worker` lives on this node, for a slice of `seconds` to come."""
    try:
        client().zadd(_key(stream), {_name(worker): time.time() + seconds})
    except redis.RedisError as error:
        log.warning("a pump could not report: %s", error)


def end(stream: str, worker: str) -> None:
    """Note that the pump in `worker` has stopped."""
    try:
        client().zrem(_key(stream), _name(worker))
    except redis.RedisError as error:
        log.warning("a pump could not sign off: %s", error)


def alive(stream: str, node: str = "") -> int:
    """Return how many pumps of `node`, or of all nodes, gave a sign of life lately.

    0 when Valkey does not answer. Pumps of killed processes on this machine do not count; those of
    others are waited for.
    """
    try:
        connection = client()
        now = time.time()
        connection.zremrangebyscore(_key(stream), "-inf", now - _ALIVE_SECONDS)
        # Left by a clock that was ahead: it would count as alive until that time has come.
        latest = now + settings.DELIVERY_SLICE_SECONDS + _ALIVE_SECONDS
        connection.zremrangebyscore(_key(stream), latest, "+inf")
        names = cast(list[bytes], connection.zrange(_key(stream), 0, -1))
        dead = [name for name in names if _is_dead(name.decode())]
        if dead:
            connection.zrem(_key(stream), *dead)
        live = [name.decode().partition("@")[2] for name in set(names) - set(dead)]
        return live.count(node) if node else len(live)
    except redis.RedisError as error:
        log.warning("the pumps cannot be counted: %s", error)
        return 0
