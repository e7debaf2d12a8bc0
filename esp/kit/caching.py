"""Keep what is dear to compute for some seconds; without Valkey it is computed each time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar, cast

import redis
from django.core.cache import cache

T = TypeVar("T")

log = logging.getLogger(__name__)

_MISSING = object()


def kept(key: str, make: Callable[[], T], *, seconds: float) -> T:
    """Return what `make` returned for `key` up to `seconds` ago, else call it now.

    A cache that is away slows a page down, and never breaks it.
    """
    try:
        found = cache.get(key, _MISSING)
    except redis.RedisError as error:
        log.warning("computed without the cache: %s", error)
        return make()
    if found is not _MISSING:
        return cast(T, found)
    value = make()
    try:
        cache.set(key, value, seconds)
    except redis.RedisError as error:
        log.warning("not kept in the cache: %s", error)
    return value
