"""Which part of a delivery worker spends the CPU time: clocks around the parts' front doors.

A clock reads the thread's CPU time, so waiting costs nothing in these figures. Reading it is a
system call; with all clocks going for every message they took a tenth of a worker's time. So one
delivery in `_EVERY` is watched, one message that is made, and one packet that came; what is done
once for several messages always is. Parts inside others are taken off the outer ones.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from sending.content.coded import CodedRenderer
from sending.content.outgoing import Outgoing
from sending.dispatch import work
from sending.engine.dkim.plan import SigningPlan
from sending.engine.dkim.signatory import Signatory
from sending.engine.pool import Deliverer
from sending.engine.smtp.channel import Channel

_now = time.thread_time

_EVERY = 16
_SAMPLED = ("render", "mime", "plan", "envelope", "smtp", "heard")


class Clocks:
    """CPU seconds by part. Every part runs in one thread only, so plain additions are safe."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.watches = False  # whether the call that runs is a watched one

    def always(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function` with the CPU time of each call added to `part`."""
        seconds = self.seconds
        seconds.setdefault(part, 0.0)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            start = _now()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[part] += _now() - start

        return wrapper

    def sampled(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function` with the CPU time of one call in `_EVERY`, watched, in `part`."""
        measured = self.always(part, function)
        turn = itertools.cycle(range(_EVERY))

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if next(turn):
                return function(*args, **kwargs)
            self.watches = True
            try:
                return measured(*args, **kwargs)
            finally:
                self.watches = False

        return wrapper

    def inside(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function` with its CPU time within a watched call added to `part`."""
        measured = self.always(part, function)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return (measured if self.watches else function)(*args, **kwargs)

        return wrapper

    def delivery(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a coroutine function with the steps of one call in `_EVERY` added to `part`."""
        self.seconds.setdefault(part, 0.0)
        turn = itertools.cycle(range(_EVERY))

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            inner = function(*args, **kwargs)
            return inner if next(turn) else _Steps(self, part, inner)

        return wrapper

    def install(self) -> None:
        """Put clocks around claim, render, mime, sign, smtp and record in this process."""
        _swap(CodedRenderer, "render", lambda f: self.inside("render", f))
        _swap(Outgoing, "write", lambda f: self.inside("mime", f))
        _swap(Outgoing, "assembled", lambda f: self.inside("mime", f))
        _swap(SigningPlan, "prepare", lambda f: self.inside("plan", f))
        _swap(Signatory, "fields", lambda f: self.always("sign", f))
        _swap(work, "unsigned_data", lambda f: self.sampled("envelope", f))
        _swap(work.DeliveryWork, "_claim", lambda f: self.always("claim", f))
        _swap(work.DeliveryWork, "_record", lambda f: self.always("record", f))
        _swap(Channel, "data_received", lambda f: self.sampled("heard", f))
        _swap(Deliverer, "deliver", lambda f: self.delivery("smtp", f))

    def result(self, process_seconds: float) -> dict[str, float]:
        """Return CPU seconds by part; `other` is the rest of `process_seconds`."""
        found = {
            part: seconds * _EVERY if part in _SAMPLED else seconds
            for part, seconds in self.seconds.items()
        }
        found["smtp"] += found.pop("heard")
        found["envelope"] -= found["mime"] + found["plan"]
        found["mime"] -= found["render"]
        found["sign"] += found.pop("plan")
        found["other"] = process_seconds - sum(found.values())
        return found


class _Steps(Awaitable[Any]):
    """Drives a coroutine of a watched delivery and adds up the CPU time of its steps."""

    def __init__(self, clocks: Clocks, part: str, inner: Any) -> None:
        self._clocks, self._part, self._inner = clocks, part, inner

    def __await__(self) -> Generator[Any, Any, Any]:
        inner, clocks, part = self._inner, self._clocks, self._part
        value: Any = None
        error: BaseException | None = None
        while True:
            start = _now()
            try:
                step = inner.send(value) if error is None else inner.throw(error)
            except StopIteration as end:
                return end.value
            finally:
                clocks.seconds[part] += _now() - start
            value, error = None, None
            try:
                value = yield step
            except BaseException as raised:  # handed to the coroutine, as await does
                error = raised


def _swap(owner: Any, name: str, wrap: Callable[[Any], Any]) -> None:
    setattr(owner, name, wrap(getattr(owner, name)))
