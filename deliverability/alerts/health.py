"""Is what we stand on well? PostgreSQL, Valkey, DNS, the clock and the jobs, each with its alert.

Runs in a thread of the scheduler, not as a job: a job would need the very servers that it is to
miss. Each check looks, raises or closes its alerts, and never raises itself.
"""

from __future__ import annotations

import logging
import socket
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import dns.exception
import dns.message
import dns.query
import dns.resolver
import redis
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection, transaction

from deliverability.alerts.checks import SILENT_SECONDS, note_check, seconds_since_check
from deliverability.alerts.services import close_unseen, record_remembered, settle_alert
from esp.kit import pauses
from esp.kit.valkey import client

log = logging.getLogger(__name__)

EVERY_SECONDS = 5.0
_SLOW_POSTGRES_SECONDS = 0.5
_SLOW_VALKEY_SECONDS = 0.1
_WRONG_CLOCK_SECONDS = 2.0
_FULL_SHARE = 0.9
_DNS_SECONDS = 2.0
_ROOM_EVERY_SECONDS = 60.0
_DISK_FULL = "53100"
_RESTART_SHOWN_SECONDS = 600.0


@dataclass(slots=True)
class Watch:
    """Looks again and again; remembers what only a comparison with before can tell."""

    valkey_run_id: str = ""
    is_full: bool = False
    looked_for_room_at: float = float("-inf")
    began_at: float = field(default_factory=time.monotonic)
    problems: list[str] = field(default_factory=list)

    def look(self) -> list[str]:
        """Do every check once; returns the codes of the alerts that are open because of them."""
        self.problems = []
        self._look_at_valkey()
        self._look_at_postgres()
        self._look_at_dns()
        self._look_at_jobs()
        said = (
            ", ".join(code.replace("-", " ") for code in self.problems)
            or "PostgreSQL, Valkey, DNS and the clock are well"
        )
        note_check("servers", said)
        return self.problems

    def _settle(
        self, is_on: bool, code: str, title: str, detail: str, *, is_critical: bool = True
    ) -> None:
        if is_on:
            self.problems.append(code)
        settle_alert(
            is_on=is_on,
            code=code,
            severity="critical" if is_critical else "warning",
            title=title,
            detail=detail,
        )

    # -- Valkey --------------------------------------------------------------------------------

    def _look_at_valkey(self) -> None:
        error, seconds, share, run_id, is_refusing = "", 0.0, 0.0, "", False
        try:
            seconds, share, run_id = _measure_valkey()
            is_refusing = _refuses_writes()
        except redis.RedisError as failure:
            error = str(failure) or type(failure).__name__
        self._settle(
            bool(error),
            "valkey-down",
            "Valkey does not answer: no new deliveries start.",
            f"{error}\nNothing is lost: the API accepts, and mail waits in PostgreSQL. Look at the "
            "process and its log; restarting it is safe. All goes on by itself within a minute.",
        )
        if error:
            return
        self._settle(
            is_refusing or share >= _FULL_SHARE,
            "valkey-full",
            "Valkey's memory is full." if is_refusing else "Valkey's memory is nearly full.",
            f"{share:.0%} of maxmemory is used. Raise maxmemory (`CONFIG SET maxmemory`), or see "
            "which keys grow (`valkey-cli --bigkeys`). Restarting it is safe. "
            + (
                "Jobs and wake-ups are lost until then, and each worker keeps to its own part of "
                "the limits; sweeps find what was lost."
                if is_refusing
                else "Nothing has been refused yet."
            ),
            is_critical=is_refusing,
        )
        self._settle(
            seconds > _SLOW_VALKEY_SECONDS,
            "valkey-slow",
            "Valkey answers slowly: deliveries wait for their share of limits.",
            f"{seconds * 1000:.0f} ms for one answer. Is its machine overloaded or swapping, or "
            "the network slow? Mail goes on, slower; above half a second each worker keeps to its "
            "own part of the limits.",
            is_critical=False,
        )
        if self.valkey_run_id and run_id != self.valkey_run_id:
            self._settle(
                True,
                "valkey-restarted",
                "Valkey was restarted: shares of limits begin anew.",
                "Nothing to do: buckets start empty, counts of the hour and day come from "
                "PostgreSQL. If nobody restarted it, its log says why it fell.",
                is_critical=False,
            )
        self.valkey_run_id = run_id

    # -- PostgreSQL ----------------------------------------------------------------------------

    def _finds_no_room(self) -> bool:
        """Tell whether the disk is full; looked at once a minute, while it is full each time."""
        now = time.monotonic()
        if self.is_full or now - self.looked_for_room_at >= _ROOM_EVERY_SECONDS:
            self.looked_for_room_at, self.is_full = now, _is_full()
        return self.is_full

    def _look_at_postgres(self) -> None:
        error, seconds, is_read_only, skew = "", 0.0, False, 0.0
        try:
            seconds, is_read_only, skew = _measure_postgres()
        except (DatabaseError, InterfaceError) as failure:
            connection.close()
            error = (str(failure).strip().splitlines() or [type(failure).__name__])[0]
        self._settle(
            bool(error),
            "postgres-down",
            "PostgreSQL cannot be used: nothing is accepted and nothing is sent.",
            f"{error}\nLook at its process, log, disk and connections. The API answers 503 with "
            "Retry-After; deliveries under way are kept in the workers' journals, so leave their "
            "DATA_DIR alone. All goes on by itself afterwards.",
        )
        if error:
            return
        self._settle(
            is_read_only,
            "postgres-read-only",
            "PostgreSQL takes no writes: nothing is accepted and nothing is sent.",
            "It is a standby (has it failed over?), or default_transaction_read_only is on. The "
            "API answers 503 with Retry-After. All goes on by itself once it takes writes.",
        )
        if is_read_only:
            return
        self._settle(
            self._finds_no_room(),
            "postgres-full",
            "PostgreSQL's disk is full: nothing is accepted and nothing is sent.",
            "Make room on its disk (old logs, WAL of a stuck replication slot), or enlarge it; "
            "delete nothing inside its data folder. The API answers 503 with Retry-After. All goes "
            "on by itself afterwards.",
        )
        self._settle(
            seconds > _SLOW_POSTGRES_SECONDS,
            "postgres-slow",
            "PostgreSQL answers slowly: accepting and sending are slow, too.",
            f"{seconds:.1f} s for the simplest question. See its locks (pg_stat_activity), disk "
            "and connections. Nothing is lost, and nothing need be restarted.",
            is_critical=False,
        )
        self._settle(
            abs(skew) > _WRONG_CLOCK_SECONDS,
            "clock-wrong",
            f"The clock of {socket.gethostname()} is {abs(skew):.0f} s "
            f"{'ahead of' if skew > 0 else 'behind'} PostgreSQL's.",
            "Set the clock (NTP); of the two, the wrong one. Workers go by PostgreSQL's, so "
            "nothing is doubled; scheduled mail and expiry may be early or late by as much.",
        )
        try:
            record_remembered()
            if "valkey-restarted" not in self.problems:
                close_unseen(code="valkey-restarted", seconds=_RESTART_SHOWN_SECONDS)
        except (DatabaseError, InterfaceError, redis.RedisError) as failure:
            log.warning("remembered alerts still wait: %s", failure)

    # -- DNS -----------------------------------------------------------------------------------

    def _look_at_dns(self) -> None:
        silent = silent_resolvers(settings.DNS_RESOLVERS)
        total = len(settings.DNS_RESOLVERS) or len(dns.resolver.Resolver().nameservers)
        is_gone = bool(silent) and len(silent) >= total
        if is_gone:
            pauses.pause_claims("dns", seconds=4 * EVERY_SECONDS)
        else:
            pauses.resume_claims("dns")
        self._settle(
            bool(silent),
            "dns-down",
            "No name server answers: deliveries pause." if is_gone else "A name server is silent.",
            f"Silent: {', '.join(silent)}. "
            + (
                "No try is used up meanwhile; mail goes on by itself with the first answer. Look "
                "at the resolvers, and at the way to them; DNS_RESOLVERS names others."
                if is_gone
                else "The others answer, so mail goes on. Mend it, or take it out of DNS_RESOLVERS."
            ),
            is_critical=is_gone,
        )

    # -- jobs ----------------------------------------------------------------------------------

    def _look_at_jobs(self) -> None:
        """Tell whether the sweeps run: the queue check says something every minute."""
        if self.is_down("valkey-down", "postgres-down", "postgres-read-only", "postgres-full"):
            self.began_at = time.monotonic()  # its silence has a cause, and an alert, of its own
            return
        silent = min(seconds_since_check("queue"), time.monotonic() - self.began_at)
        self._settle(
            silent > SILENT_SECONDS,
            "jobs-silent",
            "No background job has run for minutes: nothing is swept, woken or checked.",
            "Scheduled mail, retries, campaigns and expiry stand still; deliveries under way go "
            "on. Start a worker for the queue `default`, or see in its log what it hangs on. "
            "Nothing is lost; all goes on by itself.",
        )

    def is_down(self, *codes: str) -> bool:
        """Tell whether one of `codes` was found in this look."""
        return any(code in self.problems for code in codes)


def _measure_valkey() -> tuple[float, float, str]:
    """Return the median seconds of an answer, the share of memory used, and the run's id."""
    valkey = client()
    times = []
    for _ in range(3):
        begun = time.monotonic()
        valkey.ping()
        times.append(time.monotonic() - begun)
    facts = valkey.info()
    assert isinstance(facts, dict)
    limit = int(facts.get("maxmemory", 0))
    share = int(facts["used_memory"]) / limit if limit else 0.0
    return statistics.median(times), share, str(facts["run_id"])


def _refuses_writes() -> bool:
    try:
        client().set("mw:health", b"1", ex=60)
    except redis.exceptions.OutOfMemoryError:
        return True
    return False


def _measure_postgres() -> tuple[float, bool, float]:
    """Return seconds of an answer, whether writes are refused, and how far our clock is ahead."""
    begun, wall = time.monotonic(), time.time()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM clock_timestamp())::float8, "
            "current_setting('transaction_read_only') = 'on'"
        )
        theirs, is_read_only = cursor.fetchone()
    seconds = time.monotonic() - begun
    return seconds, bool(is_read_only), wall + seconds / 2 - float(theirs)


def _is_full() -> bool:
    """Try to write some pages: SQLSTATE 53100 says that the disk has no room for them."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("CREATE TEMPORARY TABLE mw_room (filler text) ON COMMIT DROP")
            # Not compressible, and in the table itself: ten pages.
            cursor.execute("ALTER TABLE mw_room ALTER filler SET STORAGE PLAIN")
            cursor.execute(
                "INSERT INTO mw_room SELECT repeat(md5(n::text), 200) FROM generate_series(1, 10) n"
            )
    except DatabaseError as error:
        return getattr(error.__cause__, "sqlstate", None) == _DISK_FULL
    return False


def silent_resolvers(servers: Sequence[str], *, seconds: float = _DNS_SECONDS) -> list[str]:
    """Return those of `servers` ("address:port") that do not answer; any answer is one."""
    wanted = list(servers) or [str(host) for host in dns.resolver.Resolver().nameservers]
    question = dns.message.make_query(settings.PRODUCT_DOMAIN, "SOA")
    silent = []
    for server in wanted:
        host, separator, port = server.rpartition(":")
        if not separator or ":" in host:
            host, port = server, "53"
        try:
            dns.query.udp(question, host, port=int(port), timeout=seconds)
        except (dns.exception.DNSException, OSError):
            silent.append(server)
    return silent


def start_thread(every: float = EVERY_SECONDS) -> threading.Event:
    """Look every `every` seconds in a thread, until the event that is returned is set."""
    ending = threading.Event()

    def run() -> None:
        watch = Watch()
        while True:
            try:
                watch.look()
            except Exception:  # the watch must outlive whatever it looks at
                log.exception("the health checks failed")
            if ending.wait(every):
                connection.close()
                return

    threading.Thread(target=run, name="health", daemon=True).start()
    return ending
