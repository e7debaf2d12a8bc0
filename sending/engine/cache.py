"""A bounded cache whose entries end; least recently used entries go first when it is full."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from esp.lib.clock import Clock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class TtlCache(Generic[K, V]):
    """Maps keys to values until `seconds` after they were put; holds at most `size` entries."""

    def __init__(self, *, size: int, clock: Clock) -> None:
        if size < 1:
            raise ValueError("a cache holds at least one entry")
        self._size = size
        self._clock = clock
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """Return the value that still holds, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] <= self._clock.monotonic():
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def put(self, key: K, value: V, *, seconds: float) -> None:
        """Keep `value` for `seconds`; nothing is kept for zero or less."""
        self._entries.pop(key, None)
        if seconds <= 0:
            return
        self._entries[key] = (self._clock.monotonic() + seconds, value)
        while len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def discard(self, key: K) -> None:
        """Forget `key`, if it was there."""
        self._entries.pop(key, None)
