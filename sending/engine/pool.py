"""Delivering one message: look up, choose a way, get a permit, reuse or open a session, send."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from esp.lib.clock import Clock, SystemClock
from sending.engine.addresses import command_path
from sending.engine.destinations import Destination, Destinations, Trail
from sending.engine.mx import MxResolver, MxSettings
from sending.engine.ports import (
    Carrier,
    Demand,
    Kind,
    MxAnswer,
    Order,
    Outcome,
    Permit,
    Phase,
    Refusal,
    Relay,
    Resolver,
    Throttle,
    Way,
)
from sending.engine.secure.advisor import AdvisorSettings, PolicyStore, TlsAdvisor
from sending.engine.smtp.connector import Connector, ConnectorSettings
from sending.engine.smtp.idle import IdleSessions, Key, PoolSettings
from sending.engine.smtp.session import Origin, Session, SessionSettings
from sending.engine.smtp.transaction import Letter, send
from sending.engine.throttle import LaneLimits, LocalThrottle
from sending.engine.ways import is_direct, may_go_on, ordered_ways

# Holds that may end within moments; the others are waited for in the queue.
_SHORT_HOLDS = ("connections", "rate")

__all__ = ["Deliverer", "PoolSettings", "make_deliverer"]


class _Unmade(Exception):
    """`Order.make` failed; the text says why."""


class _Errand:
    """An order on its way: what is known of it by now; its bytes are made once, when needed."""

    __slots__ = ("_letter", "is_carried", "mail", "order", "rcpt")

    def __init__(self, order: Order, mail: str, rcpt: str) -> None:
        self.order = order
        self.mail = mail
        self.rcpt = rcpt
        self.is_carried = False
        self._letter: Letter | None = None

    @property
    def is_leaving(self) -> bool:
        """Whether any of the content may have left the house."""
        return self.is_carried or (self._letter is not None and self._letter.is_leaving)

    async def letter(self) -> Letter:
        """Return envelope and bytes; raises _Unmade for content that cannot be sent."""
        if self._letter is None:
            try:
                data = await self.order.make()
            except Exception as error:  # whatever a tenant's content does
                raise _Unmade(str(error) or type(error).__name__) from error
            self._letter = Letter(self.mail, self.rcpt, data)
        return self._letter


@dataclass(frozen=True, slots=True)
class _Held:
    """A way that had no room."""

    trail: Trail
    demand: Demand
    refusal: Refusal


class Deliverer:
    """The engine's front: one order in, one outcome out; connections are kept in between.

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
        rng: random.Random | None = None,
        site_for: Callable[[MxAnswer], str] | None = None,
        advisor: TlsAdvisor | None = None,
    ) -> None:
        self._advisor = advisor
        self._clock = clock or SystemClock()
        self._resolver = resolver
        self._throttle = throttle
        self._rng = rng or random.Random()  # noqa: S311 (spreads load, guards nothing)
        self._destinations = Destinations(resolver, site_for=site_for, clock=self._clock)
        self._settings = pool or PoolSettings()
        self._errands: dict[int, _Errand] = {}
        self._idle = IdleSessions(self._settings, clock=self._clock)
        self._connector = Connector(
            resolver,
            session=session or SessionSettings(),
            clock=self._clock,
            settings=connector or ConnectorSettings(),
            advisor=advisor,
            rng=self._rng,
        )

    @property
    def advisor(self) -> TlsAdvisor | None:
        """Who knows the receivers' TLS policies, and has counted the sessions."""
        return self._advisor

    @property
    def idle_sessions(self) -> int:
        """How many connections wait for a next message."""
        return len(self._idle)

    async def deliver(self, order: Order) -> Outcome:
        """Try once to hand `order` over by one of its ways.

        Returns an Outcome whatever the network and the servers do. Where no way has room it is a
        deferral with phase "throttle": nothing was tried or made, and it is no attempt. The bytes
        are made under a permit, once a session stands; a message moves on to its next way only
        while nothing of it was taken.
        """
        try:
            mail = command_path(order.mail_from)
        except ValueError as error:
            return self._local("bounced", "envelope", "block/sender-rejected", str(error))
        try:
            rcpt = command_path(order.rcpt_to)
            if not rcpt:
                raise ValueError("there is no recipient")
        except ValueError as error:
            return self._local("bounced", "envelope", "hard/invalid-recipient", str(error))
        errand = _Errand(order, mail, rcpt)
        self._errands[id(order)] = errand
        try:
            return await self._look_up(errand)
        finally:
            del self._errands[id(order)]

    def is_leaving(self, order: Order) -> bool:
        """Tell whether any of the content of `order`, under way now, may have left."""
        errand = self._errands.get(id(order))
        return errand is not None and errand.is_leaving

    async def close(self) -> None:
        """Close every kept connection; messages under way must have ended before.

        Not the end: a later `deliver` opens connections anew.
        """
        await self._idle.close()
        if self._advisor is not None:
            await self._advisor.close()
        await self._resolver.close()

    # --- choosing a way --------------------------------------------------------------------

    async def _look_up(self, errand: _Errand) -> Outcome:
        """Find where the domain's mail goes, if a way needs it, and try the ways."""
        ways: Sequence[Way] = errand.order.ways
        if is_direct(ways[0]) if len(ways) == 1 else any(map(is_direct, ways)):
            domain = errand.order.domain
            there = self._destinations.known(domain) or await self._destinations.find(domain)
            answer = there.answer
            if answer is not None and answer.kind is not None:
                # A domain that takes no mail takes none through a relay either; one that cannot be
                # looked up now may be known there.
                ways = [way for way in ways if not is_direct(way)]
                if answer.kind == "bounced" or not ways:
                    return self._local(answer.kind, "mx", answer.classification, answer.text)
        else:
            there = self._destinations.by_routes
        return await self._by_ways(errand, there, ordered_ways(ways, self._rng))

    async def _by_ways(self, errand: _Errand, there: Destination, ways: Sequence[Way]) -> Outcome:
        order = errand.order
        held: list[_Held] = []
        last: Outcome | None = None
        for way in ways:
            trail = there.trail(way)
            demand = Demand(trail.lane, order.tenant, order.batch, order.domain)
            permit = await self._throttle.acquire(demand, wait_seconds=0)
            if isinstance(permit, Refusal):
                held.append(_Held(trail, demand, permit))
                continue
            last = await self._under(permit, trail, errand)
            if not may_go_on(last, way):
                return last
        # A way that had no room is worth more than the failure of one that was not to be had.
        return last if last is not None and not held else await self._patiently(errand, held)

    async def _patiently(self, errand: _Errand, held: Sequence[_Held]) -> Outcome:
        """Wait once for the way that promises room soonest, else say what held the message."""
        if not held:
            return self._local("deferred", "throttle", "soft/throttled", "There is no way to send.",
                               hold="route", retry_after=60.0)  # fmt: skip
        best = min(held, key=lambda one: one.refusal.retry_after_seconds)
        seconds = self._settings.wait_seconds
        refusal = best.refusal
        if refusal.hold in _SHORT_HOLDS and refusal.retry_after_seconds <= seconds:
            permit = await self._throttle.acquire(best.demand, wait_seconds=seconds)
            if not isinstance(permit, Refusal):
                return await self._under(permit, best.trail, errand)
            refusal = permit
        return self._local(
            "deferred", "throttle", "soft/throttled", refusal.reason,
            origin=best.trail.origin,
            hold=refusal.hold,
            retry_after=refusal.retry_after_seconds,
        )  # fmt: skip

    async def _under(self, permit: Permit, trail: Trail, errand: _Errand) -> Outcome:
        """Send under `permit`, which is reported to and given back whatever happens."""
        try:
            try:
                outcome = await self._send(permit, trail, errand)
            except _Unmade as error:
                text = f"The message could not be made: {error}"[:1000]
                outcome = self._local(
                    "bounced", "render", "block/content", text, origin=trail.origin
                )
            self._throttle.report(permit, outcome)
        finally:
            self._throttle.release(permit)
        return outcome

    # --- sending by one way ----------------------------------------------------------------

    async def _send(self, permit: Permit, trail: Trail, errand: _Errand) -> Outcome:
        way, target = trail.way, trail.target
        if way.carrier is not None:
            return await self._carry(way, way.carrier, trail.origin, errand)
        assert target is not None, "a direct way without an MX answer"
        tls = errand.order.tls
        policy = ""
        if self._advisor is not None and not isinstance(target, Relay):
            policy = await self._advisor.sharing(target)
        key = trail.key(tls, policy)
        kept = self._idle.take(key)
        if kept is not None:
            outcome = await self._send_on(kept, errand, key, permit)
            if not _is_stale(outcome):
                return outcome
        await self._idle.make_room(trail.lane)
        session = await self._connector.open(target, trail.origin, tls=tls)
        if isinstance(session, Outcome):
            return session
        return await self._send_on(session, errand, key, permit)

    async def _carry(self, way: Way, carrier: Carrier, origin: Origin, errand: _Errand) -> Outcome:
        """Hand the message to a provider's API."""
        data = (await errand.letter()).data
        errand.is_carried = True
        outcome = await carrier.carry(errand.order, data)
        errand.is_carried = not may_go_on(outcome, way)
        return origin.mark(outcome)

    async def _send_on(
        self, session: Session, errand: _Errand, key: Key, permit: Permit
    ) -> Outcome:
        try:
            return await send(session, await errand.letter())
        finally:
            if session.chunks_failed:
                self._connector.remember_failed_chunks(session)
            if session.is_open and session.messages < permit.messages_per_connection:
                self._idle.put(key, session)
            else:
                # Under the permit still, so that a lane never has more connections than its limit.
                await session.quit()

    def _local(
        self,
        kind: Kind,
        phase: Phase,
        classification: str,
        text: str,
        *,
        origin: Origin | None = None,
        hold: str = "",
        retry_after: float | None = None,
    ) -> Outcome:
        """Return an outcome that no server had a part in."""
        return Outcome(
            kind=kind,
            phase=phase,
            classification=classification,
            text=text,
            at=self._clock.now(),
            source_address=origin.source.address if origin is not None else None,
            lane=origin.lane if origin is not None else None,
            route=origin.route if origin is not None else "",
            hold=hold,
            retry_after_seconds=retry_after,
        )


def make_deliverer(
    *,
    mx: MxSettings,
    throttle: Throttle | None = None,
    limits: LaneLimits | None = None,
    session: SessionSettings | None = None,
    connector: ConnectorSettings | None = None,
    pool: PoolSettings | None = None,
    clock: Clock | None = None,
    rng: random.Random | None = None,
    site_for: Callable[[MxAnswer], str] | None = None,
    policies: PolicyStore | None = None,
    advice: AdvisorSettings | None = None,
) -> Deliverer:
    """Wire a Deliverer with the engine's own resolver; without `throttle`, with local `limits`.

    With `policies`, receivers' MTA-STS policies and DANE records are kept.
    """
    clock = clock or SystemClock()
    resolver = MxResolver(mx, clock=clock, rng=rng)
    advisor = None
    if policies is not None:
        settings = advice or AdvisorSettings()
        advisor = TlsAdvisor(resolver, policies, settings=settings, clock=clock)
    return Deliverer(
        resolver=resolver,
        advisor=advisor,
        throttle=LocalThrottle(limits or LaneLimits(), clock=clock)
        if throttle is None  # one that nobody uses is empty, and so false
        else throttle,
        session=session,
        connector=connector,
        pool=pool,
        clock=clock,
        rng=rng,
        site_for=site_for,
    )


def _is_stale(outcome: Outcome) -> bool:
    """Tell whether a kept connection was dead or worn out before it took anything of this message.

    A 421 in answer to MAIL mostly means "enough on this connection"; if the receiver means more, it
    says so again in the greeting of the new one.
    """
    return outcome.phase == "mail" and outcome.smtp_code in (None, 421) and not outcome.is_ambiguous
