"""Asking Valkey for shares of the limits: many meters in one round trip."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import redis.asyncio
from redis.exceptions import NoScriptError, RedisError

from sending.engine.shaping.adaptive import Tuning
from sending.lanes.scripts import COUNT, EPOCH, GRANT, REACT

PREFIX = "mw:lanes"
# How far ahead messages are granted, and how often a busy worker asks (it overlaps on purpose).
HORIZON_SECONDS = 0.6
# In any 60 s no more than a minute's limit may leave: what is granted late in one minute is sent
# within `HORIZON_SECONDS` of the next.
_MINUTE = 60.0 + 2 * HORIZON_SECONDS
# Seconds that receivers count are not ours: a twentieth is kept back for the shift between them.
_SECOND_SHARE = 0.95


_USUAL = Tuning()


class ValkeyTrouble(Exception):
    """Valkey did not answer as it should; `kind` is "away", "slow" or "full"."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(slots=True)
class Ask:
    """What a worker wants of one meter. Counts of None in limits are "unlimited".

    `unspent` messages go back to rates and counts; `expired` ones, whose moment is over, to the
    counts of hour and day alone. `held` connections may be open still and cannot be taken away.
    `hour` and `day` are what the worker knows of the windows: (number of the window since 1970,
    count, sent without asking).
    `stamp` is that of the last grant: it tells whether Valkey still is what it was.
    `rate` (messages a second of late) and `in_use` are for operators to see. `window` is what a
    lane bears as far as the worker knows (0: not a lane), `cut` the hardest cut since the last
    question (1: none), `has_grown` whether it has earned one connection more. `ceiling` is this
    worker's part of the messages a second that trouble has left the lane (0: no trouble),
    `has_risen` whether it has earned a step up. `tuning` says how big steps are.
    """

    key: str
    want: int
    held: int
    messages: int
    unspent: int = 0
    expired: int = 0
    openings: int = 0
    unopened: int = 0
    connections: int | None = None
    per_second: float | None = None
    per_minute: int | None = None
    per_hour: int | None = None
    per_day: int | None = None
    connections_per_minute: int | None = None
    hour: tuple[int, int, int] = (0, 0, 0)
    day: tuple[int, int, int] = (0, 0, 0)
    stamp: str = ""
    rate: float = 0.0
    in_use: int = 0
    window: float = 0.0
    cut: float = 1.0
    has_grown: bool = False
    ceiling: float = 0.0
    has_risen: bool = False
    tuning: Tuning = _USUAL

    def numbers(self, lease: float, settle: float, turn: float) -> str:
        """Return the numbers of the grant script, in its order."""
        tuning = self.tuning
        numbers = (
            lease, HORIZON_SECONDS, settle, turn,
            self.want, self.held, _none(self.connections),
            self.messages, self.unspent, self.expired,
            0 if self.per_second is None else self.per_second * _SECOND_SHARE,
            0 if self.per_minute is None else self.per_minute / _MINUTE,
            _none(self.per_hour), _none(self.per_day),
            self.connections_per_minute or 0, self.openings, self.unopened,
            *self.hour, *self.day,
            round(self.rate, 2), self.in_use,
            self.window, self.cut, int(self.has_grown), tuning.calm_seconds,
            self.ceiling, int(self.has_risen), tuning.rate_step_seconds,
            tuning.rate_steps, tuning.least_per_second,
        )  # fmt: skip
        return " ".join(map(str, numbers))


@dataclass(frozen=True, slots=True)
class Grant:
    """A share of one meter; None is "as many as you like". `state` are reactions in force.

    While `settling_seconds` > 0 Valkey does not know yet what the workers hold: nothing is granted.
    """

    settling_seconds: float
    connections: int | None
    messages: int | None
    after_seconds: float
    openings: int | None
    hour: tuple[int, int]
    day: tuple[int, int]
    workers: int
    stamp: str = ""
    state: dict[str, Stop] = field(default_factory=dict)
    window: Window | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """What all workers of a lane have found: connections, and its last cut, if there was one.

    `ceiling` is the messages a second of all together (None: no trouble), which rises by `step`
    until `goal` and ends there.
    """

    connections: float
    cut_at: str
    factor: float
    ceiling: float | None = None
    step: float = 0.0
    goal: float = 0.0


@dataclass(frozen=True, slots=True)
class Stop:
    """A reaction in force in a lane: "suspend", "one" or "slow" for `seconds` from now."""

    seconds: float
    factor: float
    kind: str
    rule: str
    title: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One round trip's result: a grant (or None) for each ask, and who else is there."""

    grants: list[Grant | None]
    epoch: str
    roster: tuple[str, ...]


class GrantStore:
    """The shared memory of the limits. Methods raise ValkeyTrouble and nothing else."""

    def __init__(
        self,
        url: str,
        *,
        worker: str,
        lease_seconds: float = 10.0,
        settle_seconds: float = 1.5,
        timeout_seconds: float = 0.5,
        turn_seconds: float = 20.0,
        prefix: str = PREFIX,
    ) -> None:
        """`turn_seconds`: where there are fewer connections than workers, these take turns."""
        self._worker = worker
        self._lease = lease_seconds
        self._settle = settle_seconds
        self._turn = turn_seconds
        self._prefix = prefix
        self._shas = {text: _sha(text) for text in (COUNT, EPOCH, GRANT, REACT)}
        self._valkey = redis.asyncio.Redis.from_url(
            url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            protocol=2,
            retry=None,
            retry_on_error=[],
            max_connections=4,
        )

    async def ask(self, asks: Sequence[Ask]) -> Answer:
        """Say what is wanted and held; returns the grants in the order of `asks`.

        A grant is None where that one meter could not be answered (ask again).
        """
        epoch = f"{self._prefix}:epoch"
        calls: list[tuple[str, list[str], list[Any]]] = [
            (EPOCH, [epoch, f"{self._prefix}:roster"], [self._worker, self._lease * 3])
        ]
        for ask in asks:
            keys = [meter_key(ask.key, self._prefix), state_key(ask.key, self._prefix), epoch]
            numbers = ask.numbers(self._lease, self._settle, self._turn)
            calls.append((GRANT, keys, [self._worker, ask.stamp, numbers]))
        first, *rest = await self._run(calls)
        if isinstance(first, Exception):
            raise _trouble(first)
        if rest and all(isinstance(one, Exception) for one in rest):
            raise _trouble(rest[0])
        return Answer(
            grants=[None if isinstance(one, Exception) else _grant(one) for one in rest],
            epoch=first[0].decode(),
            roster=tuple(name.decode() for name in first[2:]),
        )

    async def react(self, key: str, name: str, stop: Stop) -> None:
        """Let every worker know of a reaction; an earlier, longer one stays."""
        text = f"{stop.factor:.4f}|{stop.kind}|{stop.rule}|{stop.title}"
        found = await self._run(
            [(REACT, [state_key(key, self._prefix)], [name, f"{stop.seconds:.3f}", text])]
        )
        if isinstance(found[0], Exception):
            raise _trouble(found[0])

    async def count(self, counted: Sequence[tuple[str, int, int, float]]) -> list[bool]:
        """Count replies, each (name, replies, times, within seconds); tell which are due."""
        calls: list[tuple[str, list[str], list[Any]]] = [
            (COUNT, [f"{self._prefix}:t:{_sha(name)}"], [replies, times, within])
            for name, replies, times, within in counted
        ]
        found = await self._run(calls)
        for one in found:
            if isinstance(one, Exception):
                raise _trouble(one)
        return [bool(one) for one in found]

    async def close(self) -> None:
        """Close the connections."""
        await self._valkey.aclose()

    async def _run(self, calls: Sequence[tuple[str, list[str], list[Any]]]) -> list[Any]:
        try:
            found = await self._once(calls)
            if any(isinstance(one, NoScriptError) for one in found):
                for text in self._shas:
                    await self._valkey.script_load(text)
                missing = [i for i, one in enumerate(found) if isinstance(one, NoScriptError)]
                again = await self._once([calls[i] for i in missing])
                for i, one in zip(missing, again, strict=True):
                    found[i] = one
        except (RedisError, OSError, TimeoutError) as error:
            raise _trouble(error) from error
        return found

    async def _once(self, calls: Sequence[tuple[str, list[str], list[Any]]]) -> list[Any]:
        async with self._valkey.pipeline(transaction=False) as pipe:
            for text, keys, values in calls:
                pipe.evalsha(self._shas[text], len(keys), *keys, *values)
            found: list[Any] = await pipe.execute(raise_on_error=False)
        return found


def meter_key(key: str, prefix: str = PREFIX) -> str:
    """Return where a meter's hash stands."""
    return f"{prefix}:m:{key}"


def state_key(key: str, prefix: str = PREFIX) -> str:
    """Return where a lane's reactions stand."""
    return f"{prefix}:s:{key}"


def _none(value: int | None) -> int:
    return -1 if value is None else value


def _sha(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _grant(raw: list[bytes]) -> Grant:
    numbers, cut_at, stamp = raw[:3]
    (settling, connections, messages, after, openings, hour, hour_count, day, day_count, workers,
     now, *found) = numbers.split()  # fmt: skip
    window, factor, ceiling, step, goal = map(float, found)
    state = {}
    for name, value in zip(raw[3::2], raw[4::2], strict=True):
        ends, slowed_to, kind, rule, title = value.decode("utf-8", "replace").split("|", 4)
        seconds = float(ends) - float(now)
        if seconds > 0:
            state[name.decode()] = Stop(seconds, float(slowed_to), kind, rule, title)
    return Grant(
        settling_seconds=float(settling),
        connections=_any(connections),
        messages=_any(messages),
        after_seconds=float(after),
        openings=_any(openings),
        hour=(int(hour), int(hour_count)),
        day=(int(day), int(day_count)),
        workers=int(workers),
        stamp=stamp.decode(),
        state=state,
        window=Window(window, cut_at.decode(), factor, ceiling or None, step, goal)
        if window
        else None,
    )


def _any(count: bytes) -> int | None:
    return None if count.startswith(b"-") else int(count)


def _trouble(error: Exception) -> ValkeyTrouble:
    text = str(error) or type(error).__name__
    if "OOM" in text or "maxmemory" in text:
        return ValkeyTrouble("full", text)
    slow = isinstance(error, TimeoutError | redis.exceptions.TimeoutError)
    return ValkeyTrouble("slow" if slow else "away", text)
