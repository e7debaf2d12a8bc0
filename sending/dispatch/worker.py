"""A delivery worker: the engine's event loop in a worker process, wired to queue and keys.

The loop and its connections live as long as the process; each task runs one slice on it. All
database work happens in one thread beside the loop, on one connection.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import dns.resolver
import uvloop
from django.conf import settings
from django.db import DatabaseError, InterfaceError, close_old_connections, connections

from deliverability.ips.selectors import sources_for
from esp.kit.stopping import is_stopping
from esp.lib.backoff import SCHEDULES, Schedule
from esp.lib.clock import SystemClock
from sending.dispatch import results
from sending.dispatch.claims import Job, claim, give_back, jobs_for
from sending.dispatch.contents import (
    ContentCache,
    ContentUnusable,
    ReadyContent,
    as_source,
    build_data,
    envelope_of,
)
from sending.dispatch.journal import Journal, abandoned, kept_anywhere
from sending.engine import ports
from sending.engine.mx import MxSettings
from sending.engine.pool import Deliverer, make_deliverer
from sending.engine.recorder import Result
from sending.engine.runner import NotReady, SliceSettings, SliceSummary, run_slice
from sending.engine.session import SessionSettings

T = TypeVar("T")

_LOOK_FOR_DEAD_SECONDS = 1.0


def schedule_for(stream: str) -> Schedule:
    """Return how patient `stream` is under the configured profile."""
    profile = settings.RETRY_PROFILE
    return SCHEDULES["rehearsal" if profile == "rehearsal" else stream]


def mx_settings() -> MxSettings:
    """Return the look-up settings: the configured resolvers, else the system's."""
    servers = settings.DNS_RESOLVERS
    hosts = tuple(server.rsplit(":", 1)[0] for server in servers)
    port = int(servers[0].rsplit(":", 1)[1]) if servers and ":" in servers[0] else 53
    if not servers:
        hosts = tuple(str(host) for host in dns.resolver.Resolver().nameservers)
    return MxSettings(nameservers=hosts, port=port, allow_private=settings.ALLOW_PRIVATE_MX)


def journal_folder() -> Path:
    """Return where the workers of this machine keep what is delivered and not recorded yet."""
    return Path(settings.DATA_DIR) / "journal"


class DeliveryWork:
    """Implements the engine's `Work` for one stream over the queue of record."""

    def __init__(
        self, stream: str, *, database: ThreadPoolExecutor, name: str, clock: SystemClock
    ) -> None:
        self._stream = stream
        self._database = database
        self._name = name
        self._clock = clock
        self._contents = ContentCache()
        self._loading: dict[uuid.UUID, asyncio.Task[ReadyContent]] = {}
        self._schedule = schedule_for(stream)
        self.journal = Journal(journal_folder(), name)
        self._looked_at = -_LOOK_FOR_DEAD_SECONDS

    async def _in_database(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._database, work)

    async def claim(self, limit: int, avoid: frozenset[str]) -> Sequence[Job]:
        """Lease due messages; those that must not leave any more are ended here."""
        return await self._in_database(lambda: self._claim(limit, avoid))

    def _claim(self, limit: int, avoid: frozenset[str]) -> list[Job]:
        self._finish_for_the_dead()
        now = self._clock.now()
        jobs = claim(
            stream=self._stream,
            limit=limit,
            worker=self._name,
            now=now,
            lease=dt.timedelta(seconds=settings.DELIVERY_LEASE_SECONDS),
            avoid=avoid,
        )
        jobs = self._without_delivered(jobs)
        results.drop([job for job in jobs if job.suppressed or job.has_left], now=now)
        return [job for job in jobs if not (job.suppressed or job.has_left)]

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

    def note(self, result: Result[Job]) -> None:
        """Keep a delivery where a kill cannot lose it, before anybody else hears of it."""
        if result.outcome.kind == "delivered":
            self.journal.note(result.job.message_id, result.outcome)

    def finish_own(self) -> None:
        """Record what an earlier slice delivered and could not record; raises DatabaseError."""
        self._record_delivered(self.journal.entries())
        self.journal.clear()

    def destination(self, job: Job) -> str:
        return job.domain

    async def prepare(self, job: Job) -> ports.Order:
        """Say who gets the message and by which ways; its bytes are made under a permit."""
        try:
            content = self._contents.get(job.content_id)
            if content is None:
                content = await self._load(job.content_id)
            sources = sources_for(job.tenant_id, job.stream, load=False)
            if sources is None:
                sources = await self._in_database(lambda: sources_for(job.tenant_id, job.stream))
        except (DatabaseError, InterfaceError) as error:
            raise NotReady(str(error)) from error
        assert sources is not None
        mail_from, rcpt_to = envelope_of(job, content)
        return ports.Order(
            message_id=job.message_id,
            mail_from=mail_from,
            rcpt_to=rcpt_to,
            domain=job.domain,
            tenant=str(job.tenant_id),
            batch=str(job.batch_id),
            ways=tuple(ports.Way(as_source(source)) for source in sources),
            make=partial(build_data, job, content),
        )

    async def _load(self, content_id: uuid.UUID) -> ReadyContent:
        """Load a content once, however many messages wait for it."""
        task = self._loading.get(content_id)
        if task is None:
            task = asyncio.create_task(self._in_database(lambda: self._contents.load(content_id)))
            self._loading[content_id] = task
            task.add_done_callback(lambda _: self._loading.pop(content_id, None))
        return await asyncio.shield(task)

    async def record(self, batch: Sequence[Result[Job]]) -> None:
        """Write what came of a batch, in one transaction."""
        verdicts = [results.judge(result.job, result.outcome, self._schedule) for result in batch]
        await self._in_database(lambda: results.record(verdicts, worker=self._name))

    async def give_back(self, jobs: Sequence[Job]) -> None:
        """Hand back leases that were not used."""
        ids = [job.message_id for job in jobs]
        now = self._clock.now()
        await self._in_database(lambda: give_back(ids, worker=self._name, now=now))


class DeliveryWorker:
    """The loop, the connections and the database thread of one worker process."""

    def __init__(self, stream: str) -> None:
        self.name = f"{socket.gethostname()[:30]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._clock = SystemClock()
        self._loop = uvloop.new_event_loop()
        self._database = ThreadPoolExecutor(1, thread_name_prefix="database")
        self._work = DeliveryWork(
            stream, database=self._database, name=self.name, clock=self._clock
        )
        self._deliverer: Deliverer | None = None

    def run_slice(self, *, seconds: float | None = None) -> SliceSummary:
        """Deliver for a slice of `seconds`; returns its counts. Raises what the engine raises."""
        self._database.submit(close_old_connections).result()
        self._database.submit(self._work.finish_own).result()
        summary = self._loop.run_until_complete(self._slice(seconds))
        self._work.journal.clear()  # the slice has ended well: everything is recorded
        return summary

    async def _slice(self, seconds: float | None) -> SliceSummary:
        if self._deliverer is None:
            self._deliverer = make_deliverer(
                mx=mx_settings(),
                session=SessionSettings(port=settings.SMTP_PORT),
                clock=self._clock,
            )
        return await run_slice(
            self._work,
            self._deliverer,
            settings=SliceSettings(
                duration_seconds=seconds or settings.DELIVERY_SLICE_SECONDS,
                concurrency=settings.DELIVERY_CONCURRENCY,
            ),
            clock=self._clock,
            should_stop=is_stopping,
        )

    def close(self) -> None:
        """Close connections, loop and thread."""
        if self._deliverer is not None:
            self._loop.run_until_complete(self._deliverer.close())
        self._loop.close()
        self._work.journal.close()
        self._database.submit(connections.close_all).result()
        self._database.shutdown()


__all__ = ["ContentUnusable", "DeliveryWork", "DeliveryWorker", "mx_settings", "schedule_for"]
