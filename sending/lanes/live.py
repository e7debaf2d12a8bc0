"""What the workers do in lanes right now, as Valkey has it: for pages, never for decisions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import redis

from esp.kit.valkey import client
from sending.engine.ports import Lane
from sending.lanes.grants import meter_key, state_key


@dataclass(frozen=True, slots=True)
class LiveLane:
    """A lane's workers together: messages a second, connections in use, workers, reactions."""

    per_second: float = 0.0
    in_use: int = 0
    workers: int = 0
    slowed_until: float = 0.0  # seconds since 1970, by Valkey's clock
    one_until: float = 0.0
    rule: str = ""


def live_lanes(lanes: Sequence[Lane]) -> dict[Lane, LiveLane]:
    """Return what is going on in `lanes`; without Valkey nothing is known, and {} returned."""
    if not lanes:
        return {}
    try:
        pipe = client().pipeline(transaction=False)
        for lane in lanes:
            key = f"lane:{lane.source_id}|{lane.site}"
            pipe.hgetall(meter_key(key))
            pipe.hgetall(state_key(key))
        found = pipe.execute()
    except redis.RedisError:
        return {}
    now = time.time()
    return {
        lane: _live(meter, state, now)
        for lane, meter, state in zip(lanes, found[::2], found[1::2], strict=True)
    }


def _live(meter: Mapping[bytes, bytes], state: Mapping[bytes, bytes], now: float) -> LiveLane:
    rate, in_use, workers = 0.0, 0, 0
    for name, value in meter.items():
        if not name.startswith(b"w:"):
            continue
        parts = value.decode().split("|")
        if len(parts) < 5 or float(parts[1]) < now:
            continue
        rate += float(parts[3])
        in_use += int(float(parts[4]))
        workers += 1
    ends: dict[str, float] = {}
    rule = ""
    for field, stop in state.items():
        until, _, _, found, _ = stop.decode("utf-8", "replace").split("|", 4)
        if float(until) > now:
            ends[field.decode()], rule = float(until), found
    return LiveLane(rate, in_use, workers, ends.get("slow", 0.0), ends.get("one", 0.0), rule)
