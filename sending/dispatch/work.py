"""The engine's `Work` over the queue of record: claim, prepare, record, give back."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from django.conf import settings
from django.db import DatabaseError, InterfaceError

from deliverability.ips.nodes import this_node
from esp.kit.pauses import claims_paused_by
from esp.kit.wakeups import Listener
from esp.lib.backoff import SCHEDULES, Schedule
from esp.lib.clock import SystemClock
from esp.lib.ids import as_text
from sending.dispatch import results
from sending.dispatch.claims import Job, claim, give_back, jobs_for, keep, leave
from sending.dispatch.contents import ContentCache, ReadyContent, envelope_of, unsigned_data
from sending.dispatch.early import claim_early
from sending.dispatch.journal import Journal, abandoned, kept_anywhere
from sending.dispatch.metrics import DeliveryMetrics
from sending.dispatch.passing import JobOrder, Passing
from sending.dispatch.turns import Ready, ready_batches
from sending.dispatch.walks import Walks
from sending.dispatch.ways import Ways, held_for_source
from sending.engine import ports
from sending.engine.dkim.multibuffer import available
from sending.engine.dkim.signatory import Signatory
from sending.engine.press import Press
from sending.engine.recorder import Result
from sending.engine.runner import Avoid, NotReady
from sending.routes.services.results import note_results
from sending.routes.witness import Witness

T = TypeVar("T")

_LOOK_FOR_DEAD_SECONDS = 1.0
# How long a worker goes by the batches that it has seen; whoever is paused meanwhile is left out
# at once, who has come gets a turn after this time.
_READY_SECONDS = 0.3
# How often a worker with nothing to do looks for what waits for its turn, while there is nothing.
_EARLY_SECONDS = 0.25
# How long a claim goes on looking where much waits that must be left out, window by window; between
# them results are recorded.
_LOOK_SECONDS = 0.5


def schedule_for(stream: str) -> Schedule:
    """Return how patient `stream` is under the configured profile."""
    profile = settings.RETRY_PROFILE
    return SCHEDULES["rehearsal" if profile == "rehearsal" else stream]


def journal_folder() -> Path:
    """Return where the workers of this machine keep what is delivered and not recorded yet."""
    return Path(settings.DATA_DIR) / "journal"


class DeliveryWork:
    """Implements the engine's `Work` for one stream."""

    def __init__(
        self, stream: str, *, database: ThreadPoolExecutor, name: str, clock: SystemClock
    ) -> None:
        self._stream = stream
        self._database = database
        self._name = name
        self._clock = clock
        self._contents = ContentCache()
        self._press = Press(Signatory(available() if settings.DKIM_SIGN_TOGETHER else None))
        self._loading: dict[uuid.UUID, asyncio.Task[ReadyContent]] = {}
        self._schedule = schedule_for(stream)
        self._lease_time = dt.timedelta(seconds=settings.DELIVERY_LEASE_SECONDS)
        self.journal = Journal(journal_folder(), name)
        self._noted: list[tuple[uuid.UUID, ports.Outcome]] = []  # not in the journal yet
        self._looked_at = -_LOOK_FOR_DEAD_SECONDS
        self._ways = Ways()
        self._walks = Walks()
        self._ready: list[Ready] = []
        self._ready_at = -_READY_SECONDS
        self.is_expecting = False
        self._early_at = -_EARLY_SECONDS
        self._listener = Listener(stream)
        self.metrics = DeliveryMetrics()
        # From when there is a throttle on: who sees each way that was tried, and where is room now.
        self.witness: Witness | None = None
        self.places: Callable[[], Mapping[ports.Lane, int]] = dict

    async def in_database(self, work: Callable[[], T]) -> T:
        """Run `work` in the thread that has the connection."""
        return await asyncio.get_running_loop().run_in_executor(self._database, work)

    async def wait_for_work(self, timeout: float) -> bool:
        """Wait until somebody says that there is mail, at most `timeout` seconds."""
        return await self._listener.wait(timeout)

    async def claim(self, limit: int, avoid: Avoid) -> Sequence[Job]:
        """Lease due messages; those that must not leave any more are ended here."""
        end = self._clock.monotonic() + _LOOK_SECONDS
        while True:
            places = self.places()
            jobs = await self.in_database(partial(self._claim, limit, avoid, places))
            if jobs or not self._walks.is_under_way or self._clock.monotonic() >= end:
                return jobs

    def _claim(self, limit: int, avoid: Avoid, places: Mapping[ports.Lane, int]) -> list[Job]:
        self._finish_for_the_dead()
        self._walks.is_under_way = False
        if claims_paused_by():
            self.is_expecting = False
            return []  # tries would be burnt for a cause that lies with us
        now = self._clock.now()
        jobs = self._lease(limit, avoid, now)
        if not jobs and not self._walks.is_under_way:
            jobs = self._lease_early(limit, avoid, now, places)
        jobs = self._without_delivered(jobs)
        jobs = self._without_ended(jobs, now)
        return self._with_ways(jobs, now)

    def _lease(self, limit: int, avoid: Avoid, now: dt.datetime) -> list[Job]:
        """Claim by the batches seen a moment ago; where those give nothing, look again."""
        is_fresh = self._clock.monotonic() - self._ready_at < _READY_SECONDS
        if is_fresh and self._ready:
            jobs = self._claim_of(self._ready, limit, avoid, now)
            if jobs or self._walks.is_under_way:
                return jobs
        self._ready = ready_batches(self._stream, now, node=this_node())
        self._ready_at = self._clock.monotonic()
        return self._claim_of(self._ready, limit, avoid, now)

    def _claim_of(
        self, ready: Sequence[Ready], limit: int, avoid: Avoid, now: dt.datetime
    ) -> list[Job]:
        return claim(
            stream=self._stream,
            limit=limit,
            worker=self._name,
            now=now,
            lease=self._lease_time,
            node=this_node(),
            avoid=avoid.destinations,
            full=avoid.of_parties,
            avoid_batches=self._ways.avoided(),
            ready=ready,
            walks=self._walks,
        )

    def _lease_early(
        self, limit: int, avoid: Avoid, now: dt.datetime, places: Mapping[ports.Lane, int]
    ) -> list[Job]:
        """Claim what waits for its turn where there is room: nothing else is due."""
        if self._clock.monotonic() - self._early_at < _EARLY_SECONDS:
            return []
        jobs, self.is_expecting = claim_early(
            stream=self._stream,
            limit=limit,
            worker=self._name,
            now=now,
            lease=self._lease_time,
            places=places,
            avoid=avoid.destinations,
            avoid_batches=self._ways.avoided(),
        )
        if not jobs:
            self._early_at = self._clock.monotonic()
        return jobs

    def _without_ended(self, jobs: list[Job], now: dt.datetime) -> list[Job]:
        """End what must not leave any more, and what is too late."""
        late = [job for job in jobs if job.expires_at <= now]
        refused = [job for job in jobs if (job.suppressed or job.has_left) and job.expires_at > now]
        if not late and not refused:
            return jobs
        results.expire(late, now=now)
        results.drop(refused, now=now)
        ended = {job.message_id for job in (*late, *refused)}
        return [job for job in jobs if job.message_id not in ended]

    def _with_ways(self, jobs: list[Job], now: dt.datetime) -> list[Job]:
        """Leave what this node cannot send to the others, or let it wait with the reason."""
        stuck = self._ways.without(jobs)
        if not stuck:
            return jobs
        reasons = {job.message_id: self._ways.why_none(job) for job in stuck}
        others = [job.message_id for job in stuck if not reasons[job.message_id]]
        leave(others, worker=self._name, now=now)
        held = [
            results.judge(job, held_for_source(reasons[job.message_id], now), self._schedule)
            for job in stuck
            if reasons[job.message_id]
        ]
        results.record(held, worker=self._name)
        return [job for job in jobs if job.message_id not in reasons]

    def _finish_for_the_dead(self) -> None:
        """Record what workers of this machine had delivered when they were killed."""
        if self._clock.monotonic() - self._looked_at < _LOOK_FOR_DEAD_SECONDS:
            return
        self._looked_at = self._clock.monotonic()
        with abandoned(journal_folder()) as found:
            self._record_delivered(found)

    def _without_delivered(self, jobs: list[Job]) -> list[Job]:
        """Leave out, and record, what the worker before us had delivered when its lease ran out."""
        taken_over = {job.message_id for job in jobs if job.is_taken_over}
        if not taken_over:
            return jobs
        found = kept_anywhere(journal_folder(), taken_over)
        self._record_delivered(found)
        return [job for job in jobs if job.message_id not in found]

    def _record_delivered(self, found: Mapping[uuid.UUID, ports.Outcome]) -> None:
        if not found:
            return
        verdicts = [
            results.judge(job, found[job.message_id], self._schedule) for job in jobs_for(found)
        ]
        results.record(verdicts, worker=self._name)

    def finish_own(self) -> None:
        """Record what an earlier slice delivered and could not record; raises DatabaseError."""
        self._record_delivered(self.journal.entries())
        self.journal.clear()

    def note(self, result: Result[Job]) -> None:
        """Keep a delivery in the journal until it is in the database.

        What is delivered in one turn of the event loop is written together, at its end.
        """
        if result.outcome.kind != "delivered":
            return
        if not self._noted:
            asyncio.get_running_loop().call_soon(self._write_noted)
        self._noted.append((result.job.message_id, result.outcome))

    def _write_noted(self) -> None:
        noted, self._noted = self._noted, []
        self.journal.note(noted)

    def destination(self, job: Job) -> str:
        """Return what the runner shares its slots by."""
        return job.domain

    def party(self, job: Job) -> str:
        """Return whose turns at a destination the job is served by."""
        return as_text(job.batch_id)

    async def prepare(self, job: Job) -> ports.Order:
        """Say who gets the message and by which ways; its bytes are made under a permit."""
        try:
            content = self._contents.get(job.content_id)
            if content is None:
                content = await self._load(job.content_id)
            ways = self._ways.of(job, load=False)
            if ways is None:
                ways = await self.in_database(lambda: self._ways.of(job, load=True))
        except (DatabaseError, InterfaceError) as error:
            raise NotReady(str(error)) from error
        if not ways:
            raise NotReady("no source of this node may send it any more")
        mail_from, rcpt_to = envelope_of(job, content)
        return JobOrder(
            message_id=job.message_id,
            mail_from=mail_from,
            rcpt_to=rcpt_to,
            domain=job.domain,
            tenant=as_text(job.tenant_id),
            batch=as_text(job.batch_id),
            ways=ways,
            make=partial(self._press.data, partial(unsigned_data, job, content)),
            job=job,
        )

    def passing(self, deliverer: ports.Deliver) -> Passing:
        """Return a `deliverer` that passes on what another node may have room for."""
        return Passing(deliverer, next_node=self._ways.next_node)

    async def _load(self, content_id: uuid.UUID) -> ReadyContent:
        """Load a content once, however many messages wait for it."""
        task = self._loading.get(content_id)
        if task is None:
            task = asyncio.create_task(self.in_database(lambda: self._contents.load(content_id)))
            self._loading[content_id] = task
            task.add_done_callback(lambda _: self._loading.pop(content_id, None))
        return await asyncio.shield(task)

    async def record(self, batch: Sequence[Result[Job]]) -> None:
        """Write what came of a batch, in one transaction."""
        await self.in_database(lambda: self._record(batch))

    def _record(self, batch: Sequence[Result[Job]]) -> None:
        verdicts = [results.judge(result.job, result.outcome, self._schedule) for result in batch]
        results.record(verdicts, worker=self._name)
        self.metrics.note(self._stream, (result.outcome for result in batch))
        if self.witness is not None:
            note_results(self.witness.take())

    async def keep(self, jobs: Sequence[Job]) -> None:
        """Renew the leases of messages that a server takes long over."""
        ids = [job.message_id for job in jobs]
        end = self._clock.now() + self._lease_time
        await self.in_database(lambda: keep(ids, worker=self._name, end=end))

    async def give_back(self, jobs: Sequence[Job]) -> None:
        """Hand back leases that were not used."""
        ids = [job.message_id for job in jobs]
        now = self._clock.now()
        await self.in_database(lambda: give_back(ids, worker=self._name, now=now))

    async def stop_listening(self) -> None:
        """Hear no wake-ups until the next slice."""
        await self._listener.close()

    def close(self) -> None:
        """Give the journal up."""
        self.journal.close()
