"""Which part of a delivery worker spends the CPU time: clocks around the parts' front doors.

A clock reads the thread's CPU time (some 0.3 µs), so waiting costs nothing in these figures and
the measuring below one per cent. Parts inside others are taken off the outer ones.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from sending.content.coded import CodedRenderer
from sending.content.outgoing import Outgoing
from sending.dispatch import results, work
from sending.engine.dkim.gathering import Signatory
from sending.engine.dkim.plan import SigningPlan, Wanted
from sending.engine.pool import Deliverer
from sending.engine.smtp.channel import Channel

_now = time.thread_time


class Clocks:
    """CPU seconds by part. Every part runs in one thread only, so plain additions are safe."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function` with its CPU time added to `part`."""
        seconds = self.seconds
        seconds.setdefault(part, 0.0)

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            start = _now()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[part] += _now() - start

        return wrapper

    def timed_coroutine(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a coroutine function whose steps' CPU time is added to `part`."""
        self.seconds.setdefault(part, 0.0)

        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            return await _Steps(self.seconds, part, function(*args, **kwargs))

        return wrapper

    def install(self) -> None:
        """Put clocks around claim, render, mime, sign, smtp and record in this process."""
        _swap(CodedRenderer, "render", lambda f: self.timed("render", f))
        _swap(Outgoing, "write", lambda f: self.timed("mime", f))
        _swap(Outgoing, "assembled", lambda f: self.timed("mime", f))
        _swap(SigningPlan, "prepare", lambda f: self.timed("sign", f))
        _swap(Wanted, "fields", lambda f: self.timed("sign", f))
        _swap(Signatory, "_ask", lambda f: self.timed("sign", f))
        _swap(Signatory, "sign", lambda f: self.timed("gathered", f))
        _swap(work, "build_data", lambda f: self.timed_coroutine("envelope", f))
        _swap(work.DeliveryWork, "_claim", lambda f: self.timed("claim", f))
        _swap(results, "judge", lambda f: self.timed("judge", f))
        _swap(results, "record", lambda f: self.timed("record", f))
        _swap(Channel, "data_received", lambda f: self.timed("smtp", f))
        _swap(Deliverer, "deliver", lambda f: self.timed_coroutine("smtp", f))

    def result(self, process_seconds: float) -> dict[str, float]:
        """Return CPU seconds by part; `other` is the rest of `process_seconds`."""
        found = dict(self.seconds)
        found["record"] += found.pop("judge")
        found["smtp"] -= found["envelope"]
        found["envelope"] -= found["mime"] + found["sign"]
        found["mime"] -= found["render"]
        found["sign"] += found.pop("gathered")  # in a turn of the loop of its own
        found["other"] = process_seconds - sum(found.values())
        return found


class _Steps(Awaitable[Any]):
    """Drives a coroutine and adds up the CPU time of its steps."""

    def __init__(self, seconds: dict[str, float], part: str, inner: Any) -> None:
        self._seconds, self._part, self._inner = seconds, part, inner

    def __await__(self) -> Generator[Any, Any, Any]:
        inner, seconds, part = self._inner, self._seconds, self._part
        value: Any = None
        error: BaseException | None = None
        while True:
            start = _now()
            try:
                step = inner.send(value) if error is None else inner.throw(error)
            except StopIteration as end:
                return end.value
            finally:
                seconds[part] += _now() - start
            value, error = None, None
            try:
                value = yield step
            except BaseException as raised:  # handed to the coroutine, as await does
                error = raised


def _swap(owner: Any, name: str, wrap: Callable[[Any], Any]) -> None:
    setattr(owner, name, wrap(getattr(owner, name)))
