"""Sessions between two messages: kept for a moment, then said goodbye to."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from esp.lib.clock import Clock
from sending.engine.ports import Lane, Relay, TlsPolicy
from sending.engine.smtp.session import Session

# A session is shared by what leaves one source, to one site and by one route, for one set of MX
# hosts or one relay, under one demand for TLS: the sender's, and that of the domain's own policy,
# whose sessions are for that domain alone.
Key = tuple[str, str, str, str | Relay, TlsPolicy, str]


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How long and how many sessions wait for another message (Postfix keeps them 2 to 5 s).

    `wait_seconds` bounds how long a message waits for room in its lane before it goes back to the
    queue: it holds a slot of the runner meanwhile.
    """

    idle_seconds: float = 5.0
    max_idle: int = 500
    wait_seconds: float = 3.0


class IdleSessions:
    """Sessions that have sent a message and wait for the next; the latest is used first.

    They are kept by a key: only a message with the same key may use them.
    """

    def __init__(self, settings: PoolSettings, *, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._sessions: OrderedDict[Session, Key] = OrderedDict()
        self._by_key: dict[Key, list[Session]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._goodbyes: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._sessions)

    def take(self, key: Key) -> Session | None:
        """Return a session that still looks alive, or None; it belongs to the caller now."""
        while waiting := self._by_key.get(key):
            session = waiting[-1]
            self._remove(session)
            # The loop may have stood still between two slices, so the sweep alone is no proof.
            idle = self._clock.monotonic() - session.idle_since
            if session.is_open and idle < self._settings.idle_seconds:
                return session
            self._say_goodbye(session)
        return None

    def put(self, key: Key, session: Session) -> None:
        """Keep `session` for the next message; with too many, the longest waiting one goes."""
        session.idle_since = self._clock.monotonic()
        self._sessions[session] = key
        self._by_key.setdefault(key, []).append(session)
        if self._sweep is None:
            self._sweep_in(self._settings.idle_seconds)
        if len(self._sessions) > self._settings.max_idle:
            self._expire(next(iter(self._sessions)))

    async def make_room(self, lane: Lane) -> None:
        """Before a new connection in `lane`, end one that waits there for other MX hosts, if any.

        A site may have many sets of MX hosts. Without this the waiting connections of one set and
        the busy ones of another would together be more than the lane's limit.
        """
        for key in self._by_key:
            if key[0] == lane.source_id and key[1] == lane.site:
                session = self._by_key[key][0]
                self._remove(session)
                await session.quit()
                return

    async def close(self) -> None:
        """Say goodbye to all and wait until their sockets are closed."""
        for session in list(self._sessions):
            self._expire(session)
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        await asyncio.gather(*self._goodbyes)

    def _sweep_in(self, seconds: float) -> None:
        self._sweep = asyncio.get_running_loop().call_later(seconds, self._sweep_now)

    def _sweep_now(self) -> None:
        """End what has waited too long; they stand in the order in which they came.

        One timer for all: a busy session is taken and put back a thousand times a second.
        """
        self._sweep = None
        oldest = self._clock.monotonic() - self._settings.idle_seconds
        while self._sessions:
            session = next(iter(self._sessions))
            left = session.idle_since - oldest
            if left > 0:
                self._sweep_in(left)
                return
            self._expire(session)

    def _expire(self, session: Session) -> None:
        self._remove(session)
        self._say_goodbye(session)

    def _remove(self, session: Session) -> None:
        key = self._sessions.pop(session)
        waiting = self._by_key[key]
        if waiting[-1] is session:
            waiting.pop()
        else:
            waiting.remove(session)
        if not waiting:
            del self._by_key[key]

    def _say_goodbye(self, session: Session) -> None:
        task = asyncio.create_task(session.quit())
        self._goodbyes.add(task)
        task.add_done_callback(self._goodbyes.discard)
