"""How many delivery tasks go round: each keeps itself going while there is work.

A pump is a task that starts itself again after its slice. Valkey counts the live ones (their last
sign of life), so that the scheduler adds only as many as are missing; losing the count costs a few
superfluous tasks, which end when the queue is empty.
"""

from __future__ import annotations

import logging
import time

import redis

from esp.kit.valkey import client

log = logging.getLogger(__name__)

_ALIVE_SECONDS = 30.0


def _key(stream: str) -> str:
    return f"mw:pumps:{stream}"


def beat(stream: str, worker: str, *, seconds: float = 0.0) -> None:
    """Note that the pump in `worker` lives, for a slice of `seconds` to come."""
    try:
        client().zadd(_key(stream), {worker: time.time() + seconds})
    except redis.RedisError as error:
        log.warning("a pump could not report: %s", error)


def end(stream: str, worker: str) -> None:
    """Note that the pump in `worker` has stopped."""
    try:
        client().zrem(_key(stream), worker)
    except redis.RedisError as error:
        log.warning("a pump could not sign off: %s", error)


def alive(stream: str) -> int:
    """Return how many pumps gave a sign of life lately; 0 when Valkey does not answer."""
    try:
        connection = client()
        connection.zremrangebyscore(_key(stream), "-inf", time.time() - _ALIVE_SECONDS)
        return int(connection.zcard(_key(stream)))
    except redis.RedisError as error:
        log.warning("the pumps cannot be counted: %s", error)
        return 0
