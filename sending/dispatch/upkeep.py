"""What a delivery worker and the database tell each other beside the messages.

Every few seconds: limits, closed lanes and caps come in; lanes' counts, reactions to replies and
this node's sign of life go out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from django.conf import settings
from django.db import DatabaseError, InterfaceError

from deliverability.alerts.services import close_unseen, raise_alert
from deliverability.ips import caps, nodes
from deliverability.tls.selectors import required_domains
from esp.kit.valkey import client
from esp.lib.clock import Clock
from sending.dispatch.metrics import DeliveryMetrics
from sending.dispatch.tls_policies import write_results
from sending.engine.ports import Lane
from sending.engine.secure.advisor import TlsAdvisor
from sending.lanes.grants import GrantStore
from sending.lanes.selectors import counts_for, limits_snapshot
from sending.lanes.services import add_counts, add_limit_counts, write_actions
from sending.lanes.shaping import shaping_in_force, tuning_in_force
from sending.lanes.throttle import SharedThrottle
from sending.lanes.trouble import ALARM_CODE, ALARM_SECONDS
from sending.lanes.types import Action, Alarm, LaneCount, LimitCount, LimitsSnapshot, Used

log = logging.getLogger(__name__)

T = TypeVar("T")
_EVERY_SECONDS = 2.0


class InDatabase(Protocol):
    """Runs a function in the thread that may ask the database."""

    def __call__(self, work: Callable[[], T]) -> Awaitable[T]: ...


def shared_throttle(worker: str, clock: Clock, in_database: InDatabase) -> SharedThrottle:
    """Return the throttle that `worker` shares with all others; call it on the worker's loop."""

    async def seeds(lanes: Sequence[Lane]) -> Mapping[Lane, Used]:
        return await in_database(lambda: counts_for(lanes))

    waiting: set[asyncio.Future[None]] = set()

    def alarm(alarm: Alarm) -> None:
        task = asyncio.ensure_future(in_database(lambda: _tell(alarm)))
        waiting.add(task)
        task.add_done_callback(waiting.discard)

    return SharedThrottle(
        GrantStore(settings.REDIS_URL, worker=worker),
        shaping=shaping_in_force(),
        tuning=tuning_in_force(),
        worker=worker,
        clock=clock,
        cap_for=caps.cap_for,
        seeds=seeds,
        alarm=alarm,
        expected_workers=settings.DELIVERY_PUMPS,
    )


def _tell(alarm: Alarm) -> None:
    """Raise an alarm. Its end is nobody's to tell: another worker may be in trouble still."""
    if not alarm.is_on:
        return
    try:
        raise_alert(
            code=alarm.code, severity="warning", title=alarm.title, detail=alarm.detail
        )  # fmt: skip
    except (DatabaseError, InterfaceError) as error:
        log.warning("the alert %s was not written: %s", alarm.code, error)


class Upkeep:
    """Keeps a worker's throttle and the database at one."""

    def __init__(
        self,
        throttle: SharedThrottle,
        in_database: InDatabase,
        *,
        advisor: TlsAdvisor | None = None,
        metrics: DeliveryMetrics | None = None,
    ) -> None:
        self._throttle = throttle
        self._in_database = in_database
        self._advisor = advisor
        self._metrics = metrics

    async def run(self) -> None:
        """Do it again and again until cancelled."""
        while True:
            await self.once()
            await asyncio.sleep(_EVERY_SECONDS)

    async def once(self) -> None:
        """Bring out what there is and take in what is new; what fails is tried the next time."""
        actions, counts = self._throttle.take_actions(), self._throttle.take_counts()
        limits = self._throttle.take_limit_counts()
        done: set[str] = set()
        try:
            snapshot = await self._in_database(lambda: _exchange(actions, counts, limits, done))
        except (DatabaseError, InterfaceError) as error:
            log.warning("lanes and limits were not exchanged with the database: %s", error)
        else:
            self._throttle.change_limits(snapshot)
            await self._exchange_tls()
        finally:
            if "actions" not in done:
                self._throttle.put_back_actions(actions)
            if "counts" not in done:
                self._throttle.put_back_counts(counts)
            if "limits" not in done:
                self._throttle.put_back_limit_counts(limits)

    async def _exchange_tls(self) -> None:
        """Write how sessions fared under TLS policies, read what operators demand; tell metrics."""
        advisor, metrics = self._advisor, self._metrics
        sessions = advisor.take_counts() if advisor is not None else None

        def work() -> frozenset[str]:
            if metrics is not None:
                metrics.flush(client())
            if sessions:
                write_results(sessions)
            return required_domains()

        try:
            required = await self._in_database(work)
        except (DatabaseError, InterfaceError) as error:
            # Reports may miss a few sessions; mail does not wait for them.
            log.warning("TLS results were not written: %s", error)
        else:
            if advisor is not None:
                advisor.required_domains = required


def _exchange(
    actions: list[Action], counts: list[LaneCount], limits: list[LimitCount], done: set[str]
) -> LimitsSnapshot:
    if actions:
        write_actions(actions)
    done.add("actions")
    if counts:
        add_counts(counts)
    done.add("counts")
    if limits:
        add_limit_counts(limits)
    done.add("limits")
    nodes.beat(nodes.this_node())
    caps.snapshot()
    close_unseen(code=ALARM_CODE, seconds=ALARM_SECONDS * 2.5)
    return limits_snapshot()
