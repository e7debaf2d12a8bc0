"""Delivering one message: look up, get a permit, reuse or open a session, send."""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from esp.lib.clock import Clock, SystemClock
from sending.engine.addresses import command_path
from sending.engine.connector import Connector, ConnectorSettings
from sending.engine.mx import MxResolver, MxSettings
from sending.engine.ports import (
    Envelope,
    Kind,
    Lane,
    MxAnswer,
    Outcome,
    Permit,
    Phase,
    Refusal,
    Resolver,
    Source,
    Throttle,
)
from sending.engine.session import Session, SessionSettings
from sending.engine.throttle import LaneLimits, LocalThrottle

# Connections are shared by everything that leaves one source for one set of MX hosts.
_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How long and how many sessions wait for another message (Postfix keeps them 2 to 5 s)."""

    idle_seconds: float = 5.0
    max_idle: int = 500


class IdleSessions:
    """Sessions that have sent a message and wait for the next; the latest is used first."""

    def __init__(self, settings: PoolSettings, *, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._sessions: OrderedDict[Session, _Key] = OrderedDict()
        self._by_key: dict[_Key, list[Session]] = {}
        self._timers: dict[Session, asyncio.TimerHandle] = {}
        self._goodbyes: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._sessions)

    def take(self, key: _Key) -> Session | None:
        """Return a session that still looks alive, or None; it belongs to the caller now."""
        while waiting := self._by_key.get(key):
            session = waiting[-1]
            self._remove(session)
            # The loop may have stood still between two slices, so the timer alone is no proof.
            idle = self._clock.monotonic() - session.idle_since
            if session.is_open and idle < self._settings.idle_seconds:
                return session
            self._say_goodbye(session)
        return None

    def put(self, key: _Key, session: Session) -> None:
        """Keep `session` for the next message; with too many, the longest waiting one goes."""
        session.idle_since = self._clock.monotonic()
        self._sessions[session] = key
        self._by_key.setdefault(key, []).append(session)
        loop = asyncio.get_running_loop()
        self._timers[session] = loop.call_later(self._settings.idle_seconds, self._expire, session)
        if len(self._sessions) > self._settings.max_idle:
            self._expire(next(iter(self._sessions)))

    async def close(self) -> None:
        """Say goodbye to all and wait until their sockets are closed."""
        for session in list(self._sessions):
            self._expire(session)
        await asyncio.gather(*self._goodbyes)

    def _expire(self, session: Session) -> None:
        self._remove(session)
        self._say_goodbye(session)

    def _remove(self, session: Session) -> None:
        key = self._sessions.pop(session)
        self._timers.pop(session).cancel()
        waiting = self._by_key[key]
        waiting.remove(session)
        if not waiting:
            del self._by_key[key]

    def _say_goodbye(self, session: Session) -> None:
        task = asyncio.create_task(session.quit())
        self._goodbyes.add(task)
        task.add_done_callback(self._goodbyes.discard)


class Deliverer:
    """The engine's front: one message in, one outcome out; connections are kept in between.

    Lives as long as its event loop and works across several runs of it (a worker process runs one
    slice after the other on the same loop). `site_for` names the site of an MX answer; by default
    it is the set of MX hosts.
    """

    def __init__(
        self,
        *,
        resolver: Resolver,
        throttle: Throttle,
        session: SessionSettings | None = None,
        connector: ConnectorSettings | None = None,
        pool: PoolSettings | None = None,
        clock: Clock | None = None,
        site_for: Callable[[MxAnswer], str] | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._resolver = resolver
        self._throttle = throttle
        self._site_for = site_for or (lambda answer: answer.site)
        self._idle = IdleSessions(pool or PoolSettings(), clock=self._clock)
        self._connector = Connector(
            resolver,
            session=session or SessionSettings(),
            clock=self._clock,
            settings=connector or ConnectorSettings(),
        )

    @property
    def idle_sessions(self) -> int:
        """How many connections wait for a next message."""
        return len(self._idle)

    async def deliver(self, envelope: Envelope, source: Source) -> Outcome:
        """Try once to hand `envelope` to its domain's mail servers, from `source`.

        Returns an Outcome whatever the network and the servers do. A refusal of the throttle is a
        deferral with phase "throttle": nothing was tried, and it should not count as an attempt.
        """
        try:
            command_path(envelope.mail_from)
        except ValueError as error:
            return self._local("bounced", "envelope", "block/sender-rejected", str(error), source)
        try:
            if not command_path(envelope.rcpt_to):
                raise ValueError("there is no recipient")
        except ValueError as error:
            return self._local("bounced", "envelope", "hard/invalid-recipient", str(error), source)
        answer = await self._resolver.mx(envelope.domain)
        if answer.kind is not None:
            return self._local(answer.kind, "mx", answer.classification, answer.text, source)
        lane = Lane(source.id, self._site_for(answer))
        permit = await self._throttle.acquire(lane)
        if isinstance(permit, Refusal):
            return self._local("deferred", "throttle", "soft/throttled", permit.reason, source)
        try:
            outcome = await self._send(envelope, source, answer, permit)
            self._throttle.report(lane, outcome)
        finally:
            self._throttle.release(permit)
        return outcome

    async def close(self) -> None:
        """Close every kept connection; messages under way must have ended before.

        Not the end: a later `deliver` opens connections anew.
        """
        await self._idle.close()
        await self._resolver.close()

    async def _send(
        self, envelope: Envelope, source: Source, answer: MxAnswer, permit: Permit
    ) -> Outcome:
        key = (source.id, answer.site)
        kept = self._idle.take(key)
        if kept is not None:
            outcome = await self._send_on(kept, envelope, key, permit)
            if not _is_stale(outcome):
                return outcome
        session = await self._connector.open(answer, source)
        if isinstance(session, Outcome):
            return session
        return await self._send_on(session, envelope, key, permit)

    async def _send_on(
        self, session: Session, envelope: Envelope, key: _Key, permit: Permit
    ) -> Outcome:
        outcome = await session.send(envelope)
        if session.is_open and session.messages < permit.messages_per_connection:
            self._idle.put(key, session)
        else:
            # Under the permit still, so that a lane never has more connections than its limit.
            await session.quit()
        return outcome

    def _local(
        self, kind: Kind, phase: Phase, classification: str, text: str, source: Source
    ) -> Outcome:
        return Outcome(
            kind=kind,
            phase=phase,
            classification=classification,
            text=text,
            at=self._clock.now(),
            source_address=source.address,
        )


def make_deliverer(
    *,
    mx: MxSettings,
    limits: LaneLimits | None = None,
    session: SessionSettings | None = None,
    connector: ConnectorSettings | None = None,
    pool: PoolSettings | None = None,
    clock: Clock | None = None,
    rng: random.Random | None = None,
) -> Deliverer:
    """Wire a Deliverer with the engine's own resolver and local throttle."""
    clock = clock or SystemClock()
    return Deliverer(
        resolver=MxResolver(mx, clock=clock, rng=rng),
        throttle=LocalThrottle(limits or LaneLimits(), clock=clock),
        session=session,
        connector=connector,
        pool=pool,
        clock=clock,
    )


def _is_stale(outcome: Outcome) -> bool:
    """Tell whether a kept connection was dead or worn out before it took anything of this message.

    A 421 in answer to MAIL mostly means "enough on this connection"; if the receiver means more, it
    says so again in the greeting of the new one.
    """
    return outcome.phase == "mail" and outcome.smtp_code in (None, 421)
