"""How many requests a tenant may make: one bucket a tenant and kind, shared by all processes."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass

from django.conf import settings

from esp.kit.valkey import take
from esp.lib.errors import LimitReached


@dataclass(frozen=True)
class RateAnswer:
    """What the `RateLimit-*` headers say: the burst, what is left, seconds until it is full."""

    limit: int
    remaining: int
    reset_seconds: int


def check_rate(tenant_id: uuid.UUID, kind: str, *, cost: int = 1) -> RateAnswer:
    """Take `cost` requests of `kind` (a key of settings.API_RATES) from the tenant's bucket.

    Raises LimitReached, code "rate-limited", with the seconds after which it would pass.
    """
    rate, burst = settings.API_RATES[kind]
    answer = take(f"rate:{kind}:{tenant_id.hex}", rate=rate, burst=burst, cost=cost)
    if not answer.allowed:
        raise LimitReached(
            f"More than {rate} requests a second: slow down, and try again in a moment.",
            retry_after=answer.retry_after,
            code="rate-limited",
        )
    return RateAnswer(
        limit=burst,
        remaining=answer.remaining,
        reset_seconds=math.ceil((burst - answer.remaining) / rate),
    )


def exhausted(kind: str, retry_after: float) -> RateAnswer:
    """Return what the headers of a refused request say."""
    return RateAnswer(
        limit=settings.API_RATES[kind][1], remaining=0, reset_seconds=max(1, round(retry_after))
    )
