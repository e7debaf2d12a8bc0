"""One delivery worker's throttle in a process of its own; tells what it let through.

Arguments: Valkey's URL, its name, seconds, JSON of options. Prints JSON: each message's start and
end by the machine's clock (`time.monotonic` is one for all processes).
"""

from __future__ import annotations

import asyncio
import datetime as dt
import faulthandler
import json
import sys
import time
from typing import Any

from sending.engine.ports import Demand, Lane, Outcome, Refusal
from sending.engine.shaping.policy import load_shaping
from sending.lanes.grants import GrantStore
from sending.lanes.throttle import SharedThrottle
from sending.lanes.types import LimitsSnapshot, Quota


def shaping_text(limits: dict[str, float]) -> str:
    lines = [f"{name} = {value}" for name, value in limits.items()]
    return "\n".join(["[default]", *lines, 'source = "a test"', ""])


async def work(url: str, name: str, seconds: float, options: dict[str, Any]) -> dict[str, Any]:
    store = GrantStore(
        url,
        worker=name,
        timeout_seconds=options.get("timeout", 0.3),
        lease_seconds=3.0,
        turn_seconds=2.0,
    )
    alarms: list[tuple[float, str, bool]] = []
    overrides = {(kind, key): Quota(**quota) for kind, key, quota in options.get("overrides", [])}
    throttle = SharedThrottle(
        store,
        shaping=load_shaping(shaping_text(options["limits"])),
        worker=name,
        expected_workers=options.get("expected", 1),
        alarm=lambda alarm: alarms.append((time.monotonic(), alarm.code, alarm.is_on)),
        lease_seconds=3.0,
        idle_seconds=0.3,
        snapshot=LimitsSnapshot(overrides=overrides),
    )
    lane = Lane("192.0.2.1", options.get("site", "mx.example.test"))
    demand = Demand(lane, options.get("tenant", "t"), "b", "example.test")
    spans: list[tuple[float, float]] = []
    opened: list[float] = []
    reasons: dict[str, int] = {}
    ends = time.monotonic() + seconds

    async def send(number: int) -> None:
        sessions = 0
        while time.monotonic() < ends:
            permit = await throttle.acquire(demand, wait_seconds=0.5)
            if isinstance(permit, Refusal):
                reasons[permit.reason] = reasons.get(permit.reason, 0) + 1
                await asyncio.sleep(0.02)
                continue
            began = time.monotonic()
            timings = {"mail": 0.001}
            if options.get("always_connects"):
                timings["connect"] = 0.001
                opened.append(began)
            await asyncio.sleep(options.get("hold", 0.01))
            outcome = Outcome(
                "delivered", "body", "none/delivered", "250 ok", dt.datetime.now(dt.UTC),
                smtp_code=250, timings=timings,
            )  # fmt: skip
            throttle.report(permit, outcome)
            throttle.release(permit)
            spans.append((began, time.monotonic()))
            sessions += 1

    await asyncio.gather(*(send(number) for number in range(options.get("senders", 20))))
    await throttle.close()
    return {"spans": spans, "opened": opened, "alarms": alarms, "reasons": reasons}


if __name__ == "__main__":
    faulthandler.dump_traceback_later(float(sys.argv[3]) + 20, exit=True)
    found = asyncio.run(work(sys.argv[1], sys.argv[2], float(sys.argv[3]), json.loads(sys.argv[4])))
    sys.stdout.write(json.dumps(found))
