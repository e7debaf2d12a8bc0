"""Limits of the hour and day for tenants, campaigns, domains and all: they outlive Valkey."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest
import redis

from esp.stack.valkey import ValkeyServer
from sending.engine.ports import Demand, Lane, Outcome, Refusal
from sending.engine.shaping.policy import load_shaping
from sending.lanes import services
from sending.lanes.grants import GrantStore
from sending.lanes.models import LimitOverride
from sending.lanes.selectors import limits_snapshot
from sending.lanes.throttle import SharedThrottle
from sending.lanes.types import LimitCount, LimitsSnapshot

SHAPING = '[default]\nconnections = 60\nmessages_per_connection = 100\nsource = "a test"\n'
HOUR = dt.datetime.now(dt.UTC).replace(minute=0, second=0, microsecond=0)


def test_counts_add_up_by_hour_and_day(db: None) -> None:
    limit = LimitOverride.objects.create(scope="tenant", key="t", per_day=100)
    LimitOverride.objects.create(scope="domain", key="t", per_day=100)
    told = LimitCount("tenant", "t", HOUR, 5)
    services.add_limit_counts([told, told, LimitCount("batch", "gone", HOUR, 5)])
    services.add_limit_counts([told])
    limit.refresh_from_db()
    assert (limit.hour, limit.sent_hour, limit.sent_day) == (HOUR, 15, 15)
    assert [used.day for used in limits_snapshot().used.values()] == [15]
    tomorrow = HOUR + dt.timedelta(days=1)
    services.add_limit_counts([LimitCount("tenant", "t", tomorrow, 2), told])
    limit.refresh_from_db()  # what comes late does not disturb the new day
    assert (limit.hour, limit.sent_hour, limit.sent_day) == (tomorrow, 2, 2)


async def sends(
    url: str, name: str, snapshot: LimitsSnapshot, tries: int
) -> tuple[list[LimitCount], str]:
    """Send through a worker of its own until refused; returns its counts, and the refusal."""
    store = GrantStore(url, worker=name, timeout_seconds=0.5, settle_seconds=0.2)
    throttle = SharedThrottle(
        store, shaping=load_shaping(SHAPING), worker=name, expected_workers=1, snapshot=snapshot
    )
    lane = Lane("192.0.2.1", "route:x")
    demand = Demand(lane, "t", "b", "example.test")
    clean = Outcome("delivered", "body", "none/delivered", "250", dt.datetime.now(dt.UTC), 250)
    refusal, ends = "", asyncio.get_running_loop().time() + 10
    while tries and asyncio.get_running_loop().time() < ends:
        permit = await throttle.acquire(demand, wait_seconds=1.0)
        if isinstance(permit, Refusal):
            refusal = permit.reason
            if "used up" in refusal:
                break
            continue
        tries -= 1
        throttle.report(permit, clean)
        throttle.release(permit)
    await asyncio.sleep(1.2)  # the next questions are asked
    counts = throttle.take_limit_counts()
    await throttle.close()
    return counts, refusal


@pytest.mark.parametrize(
    ("scope", "key"), [("global", ""), ("tenant", "t"), ("batch", "b"), ("domain", "example.test")]
)
def test_a_days_limit_holds_when_valkey_is_emptied_and_all_workers_are_new(
    db: None, valkey: ValkeyServer, scope: str, key: str
) -> None:
    LimitOverride.objects.create(scope=scope, key=key, per_day=20)
    counts, _ = asyncio.run(sends(valkey.url, "before", limits_snapshot(), 15))
    assert sum(count.sent for count in counts) == 15
    services.add_limit_counts(counts)
    redis.Redis.from_url(valkey.url).flushall()
    counts, refusal = asyncio.run(sends(valkey.url, "after", limits_snapshot(), 20))
    assert sum(count.sent for count in counts) == 5
    assert refusal.startswith("The day's limit of 20 messages")
