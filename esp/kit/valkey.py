"""The connection to Valkey and the token bucket that lives in it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache

import redis
from django.conf import settings

log = logging.getLogger(__name__)

# KEYS[1] the bucket; ARGV: rate a second, burst, cost. The time is the server's own, so that all
# processes agree. Answers {allowed, tokens left * 1000, milliseconds until allowed}.
_BUCKET = """
local rate, burst, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local state = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = tonumber(state[1]) or burst
local at = tonumber(state[2]) or now
tokens = math.min(burst, tokens + math.max(0, now - at) * rate)
local allowed = 0
if tokens >= cost then tokens = tokens - cost; allowed = 1 end
redis.call('HSET', KEYS[1], 'tokens', tokens, 'at', now)
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / rate * 1000) + 1000)
local wait = 0
if allowed == 0 then wait = math.ceil((cost - tokens) / rate * 1000) end
return {allowed, math.floor(tokens * 1000), wait}
"""


@dataclass(frozen=True)
class BucketAnswer:
    """Whether the bucket let it pass, how many tokens are left, seconds until it would."""

    allowed: bool
    remaining: int
    retry_after: float


@lru_cache(maxsize=1)
def client() -> redis.Redis:
    """Return the process's connection pool to Valkey; answers within half a second or raises."""
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=0.5, socket_connect_timeout=0.5, health_check_interval=30
    )


def take(key: str, *, rate: float, burst: int, cost: int = 1) -> BucketAnswer:
    """Take `cost` tokens from bucket `key`, refilled at `rate` a second up to `burst`.

    Without Valkey everything passes: limits protect, they must not become the outage.
    """
    try:
        script = client().register_script(_BUCKET)
        allowed, left, wait = script(keys=[f"mw:bucket:{key}"], args=[rate, burst, cost])
    except redis.RedisError as error:
        log.warning("no rate limits while Valkey is away: %s", error)
        return BucketAnswer(allowed=True, remaining=burst, retry_after=0.0)
    return BucketAnswer(allowed=bool(allowed), remaining=left // 1000, retry_after=wait / 1000)
