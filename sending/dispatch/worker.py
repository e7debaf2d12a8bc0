"""A delivery worker: the engine's event loop in a worker process, wired to queue and keys.

The loop and its connections live as long as the process; each task runs one slice on it. All
database work happens in one thread beside the loop, on one connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import uuid
from collections.abc import Set
from concurrent.futures import ThreadPoolExecutor

import dns.resolver
import uvloop
from django.conf import settings
from django.db import close_old_connections, connection, connections

from deliverability.ips.selectors import own_addresses
from esp.kit.stopping import is_stopping
from esp.lib.clock import AnchoredClock
from sending.dispatch.contents import ContentUnusable
from sending.dispatch.tls_policies import DatabaseStore
from sending.dispatch.upkeep import Upkeep, shared_throttle
from sending.dispatch.work import DeliveryWork, journal_folder, schedule_for
from sending.engine.mx import MxSettings
from sending.engine.pool import Deliverer, make_deliverer
from sending.engine.recorder import RecordSettings
from sending.engine.runner import SliceSettings, SliceSummary, run_slice
from sending.engine.smtp.session import SessionSettings
from sending.lanes.shaping import shaping_in_force
from sending.lanes.throttle import SharedThrottle
from sending.routes.witness import Witness

__all__ = [
    "ContentUnusable",
    "DeliveryWork",
    "DeliveryWorker",
    "give_way",
    "journal_folder",
    "mx_settings",
    "schedule_for",
]

# What a campaign loses at a kill is claimed anew, so large sets are no risk; a person may be
# waiting for a single message.
_LARGE = RecordSettings(size=500, seconds=0.25)
_SMALL = RecordSettings(size=200, seconds=0.05)
# Times the slots: a claim costs mostly the asking, and waits for the results that are written
# before it, in which time no slot should stand idle.
_AHEAD = 16
_LINGER_SECONDS = 5.0
_GARBAGE = 50_000  # objects more than before, until cycles are looked for
# The web process that takes a receipt and the worker that sends it have some fourteen times a
# campaign worker's share of a busy core. With 5 (three times) the API's answers took half as long
# again (docs/benchmarks.md).
_NICE = 12


def give_way() -> None:
    """Let what people wait for go first, where all run on one machine: for a campaign's worker.

    The process has a small share of a busy core, and does not push others out of it when it wakes,
    for a reply or a row (SCHED_BATCH, sched(7)). It loses no time by that: fewer changes of the
    core's work leave it more of the caches.
    """
    os.nice(_NICE)
    with contextlib.suppress(OSError):  # a sandbox may forbid it
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def mx_settings(own_addresses: Set[str] = frozenset()) -> MxSettings:
    """Return the look-up settings: the configured resolvers, else the system's.

    Mail never goes to `own_addresses`, nor to any address that is not public.
    """
    servers = settings.DNS_RESOLVERS
    hosts = tuple(server.rsplit(":", 1)[0] for server in servers)
    port = int(servers[0].rsplit(":", 1)[1]) if servers and ":" in servers[0] else 53
    if not servers:
        hosts = tuple(str(host) for host in dns.resolver.Resolver().nameservers)
    return MxSettings(
        nameservers=hosts,
        port=port,
        allow_private=settings.ALLOW_PRIVATE_MX,
        own_addresses=own_addresses,
        validates=settings.DNS_VALIDATES,
    )


def slice_settings(stream: str, *, seconds: float, lingers: bool = False) -> SliceSettings:
    """Return how a slice of `stream` works.

    A campaign is claimed and recorded in large sets. A transactional slice that `lingers` waits a
    while for the next message, so that it finds warm connections and a worker that is awake.
    """
    slots = settings.DELIVERY_CONCURRENCY
    keep_seconds = settings.DELIVERY_LEASE_SECONDS / 4
    if stream == "transactional":
        return SliceSettings(
            duration_seconds=seconds,
            concurrency=slots,
            keep_seconds=keep_seconds,
            linger_seconds=min(_LINGER_SECONDS, seconds) if lingers else 0.0,
            record=_SMALL,
        )
    return SliceSettings(
        duration_seconds=seconds,
        concurrency=slots,
        ahead=_AHEAD * slots,
        keep_seconds=keep_seconds,
        record=_LARGE,
    )


class DeliveryWorker:
    """The loop, the connections and the database thread of one worker process."""

    def __init__(self, stream: str, *, lingers: bool = False) -> None:
        self.name = f"{socket.gethostname()[:30]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._stream = stream
        self._lingers = lingers
        self._clock = AnchoredClock()
        self._loop = uvloop.new_event_loop()
        self._database = ThreadPoolExecutor(1, thread_name_prefix="database")
        self._work = DeliveryWork(
            stream, database=self._database, name=self.name, clock=self._clock
        )
        self._throttle: SharedThrottle | None = None
        self._deliverer: Deliverer | None = None
        self._upkeep: Upkeep | None = None
        self._avoided: dict[tuple[str, str], float] = {}
        self._own: set[str] = set()

    def run_slice(self, *, seconds: float | None = None) -> SliceSummary:
        """Deliver for a slice of `seconds`; returns its counts. Raises what the engine raises."""
        self._database.submit(close_old_connections).result()
        self._database.submit(self._take_time).result()
        self._database.submit(self._take_own_addresses).result()
        self._database.submit(self._work.finish_own).result()
        summary = self._loop.run_until_complete(
            self._slice(seconds or settings.DELIVERY_SLICE_SECONDS)
        )
        self._work.journal.clear()  # the slice has ended well: everything is recorded
        return summary

    def _take_time(self) -> None:
        """Go by the database's clock: a wrong one must not end other workers' leases."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            self._clock.anchor(cursor.fetchone()[0])

    def _take_own_addresses(self) -> None:
        """Learn what is ours: a domain whose MX says so must not get its mail from us, for ever.

        In a simulated internet one machine is everybody's.
        """
        if not settings.ALLOW_PRIVATE_MX:
            found = own_addresses()
            self._own.clear()
            self._own.update(found)

    async def _slice(self, seconds: float) -> SliceSummary:
        deliverer, upkeep = await self._ready()
        keeping = asyncio.create_task(upkeep.run())
        try:
            return await run_slice(
                self._work,
                self._work.passing(deliverer),
                settings=slice_settings(self._stream, seconds=seconds, lingers=self._lingers),
                clock=self._clock,
                should_stop=is_stopping,
                avoided=self._avoided,
            )
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await self._work.stop_listening()  # whoever wakes us must know that nobody hears
            if self._throttle is not None:
                await self._throttle.rest()
            await upkeep.once()

    async def _ready(self) -> tuple[Deliverer, Upkeep]:
        """Make what lives as long as the loop, once, with the limits that hold now."""
        if self._deliverer is None or self._upkeep is None:
            in_database = self._work.in_database
            self._throttle = shared_throttle(self.name, self._clock, in_database)
            self._work.witness = Witness(self._throttle)
            self._work.places = self._throttle.places
            self._deliverer = make_deliverer(
                mx=mx_settings(self._own),
                throttle=self._work.witness,
                session=SessionSettings(port=settings.SMTP_PORT),
                clock=self._clock,
                site_for=shaping_in_force().site_of,
                policies=DatabaseStore(in_database),
            )
            self._upkeep = Upkeep(
                self._throttle, in_database, advisor=self._deliverer.advisor,
                metrics=self._work.metrics,
            )  # fmt: skip
            await self._upkeep.once()
            # What stands now stays: the collector need not go through it at each full collection.
            gc.collect()
            gc.freeze()
            # A message leaves no cycles behind, and looking for some at every 700th new object made
            # claims a fifth and results a tenth dearer.
            gc.set_threshold(_GARBAGE)
        return self._deliverer, self._upkeep

    def close(self) -> None:
        """Close connections, loop and thread."""
        self._loop.run_until_complete(self._close())
        self._loop.close()
        self._database.submit(connections.close_all).result()
        self._database.shutdown()

    async def _close(self) -> None:
        self._work.close()
        if self._deliverer is not None:
            await self._deliverer.close()
        if self._throttle is not None:
            await self._throttle.close()
