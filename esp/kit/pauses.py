"""Pauses of all deliveries, for a cause that lies with us: kept in Valkey, ending by themselves."""

from __future__ import annotations

import logging
import time

import redis

from esp.kit.valkey import client

log = logging.getLogger(__name__)

_PREFIX = "mw:pause:claims:"
_CAUSES = ("dns",)
_ASK_SECONDS = 1.0
_last: tuple[float, str] = (-_ASK_SECONDS, "")


def pause_claims(cause: str, *, seconds: float) -> None:
    """Let workers claim nothing for `seconds`, unless this is said again."""
    try:
        client().set(_PREFIX + cause, b"1", px=int(seconds * 1000))
    except redis.RedisError as error:
        log.warning("the pause for %s is not known to the workers: %s", cause, error)


def resume_claims(cause: str) -> None:
    """End a pause."""
    try:
        client().delete(_PREFIX + cause)
    except redis.RedisError as error:
        log.warning("the pause for %s runs out by itself: %s", cause, error)


def claims_paused_by() -> str:
    """Return the cause of a pause, "" when there is none; asked of Valkey once a second at most."""
    global _last  # noqa: PLW0603 (a cache of one value a process)
    now = time.monotonic()
    if now - _last[0] >= _ASK_SECONDS:
        cause = ""
        try:
            found = [name for name in _CAUSES if client().exists(_PREFIX + name)]
            cause = found[0] if found else ""
        except redis.RedisError:
            cause = ""  # what nobody can say does not stop the mail
        _last = (now, cause)
    return _last[1]
