"""`manage.py bench crash`: campaigns and API traffic while everything is killed in turn.

Afterwards every message with a 202, and every message of a started campaign, must be in one final
state that agrees with the providers' own record: `lost` and `stuck` 0, and `duplicates` at most
`open_at_kill`. That is the number of SMTP transactions open when something was killed, plus those
that a provider took and cut before its reply. SIGTERM (a deploy) adds none. Each double must also
be explained by itself (`unexplained` 0): by such a transaction of this very message.

`esp.stack.crash` owns the servers and programs and does what is asked of it here.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from esp.lib.errors import Conflict, DomainError
from esp.lib.ids import from_public
from sending.campaigns.models import Campaign
from sending.management.bench.crash_traffic import Traffic
from sending.management.bench.crash_verdict import (
    Ledger,
    States,
    doubled_words,
    miscounted,
    missing_of_campaigns,
    waiting_words,
)
from sending.management.bench.delivery import Child
from sending.management.bench.people import write_people
from sending.management.bench.workspace import (
    Workspace,
    import_file,
    make_workspace,
    start_campaign,
)
from sending.messages.models import QueueEntry
from tenants.apikeys.services import create_key
from tenants.scoping.context import scope

T = TypeVar("T")

KINDS = ("worker", "workers", "web", "scheduler", "valkey", "postgres", "terminate")
_DOMAINS = 6
_HIT_SECONDS = 8.0  # about what a kill with its recovery takes on a quiet machine
_RECOVERY_SECONDS = 60.0
_FLOWING_MESSAGES = 10
_TELL_SECONDS = 15.0


@dataclass(frozen=True)
class CrashOptions:
    """What the command line asks for: `recipients` in all, `seconds` of chaos."""

    recipients: int
    seconds: float
    seed: int
    settle_seconds: float
    cut_share: float
    api_rate: float


class Host:
    """The other side of the pipe: `esp.stack.crash.CrashHost`."""

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Have something done to the installation and wait until it is."""
        print("!" + json.dumps({"do": do, **arguments}), flush=True)  # noqa: T201 (the protocol)
        answer: dict[str, Any] = json.loads(sys.stdin.readline())
        return answer


def bench_crash(options: CrashOptions, say: Callable[[str], None]) -> dict[str, Any]:
    """Run the chaos and return the figures; `say` takes a line of progress."""
    begun = time.monotonic()
    host = Host()
    command = [
        sys.executable, "-m", "sending.management.bench.crash_internet",
        "--domains", str(_DOMAINS), "--seed", str(options.seed),
        "--cut-share", str(options.cut_share),
    ]  # fmt: skip
    internet = Child(command)
    try:
        where = json.loads(internet.hear())
        chaos = _Chaos(options, host, internet, say)
        workspace, key = chaos.make_workspace()
        started = host.ask(
            "start",
            environment={
                "SMTP_PORT": str(where["smtp_port"]),
                "DNS_RESOLVERS": f"127.0.0.1:{where['dns_port']}",
                "DELIVERY_SLICE_SECONDS": "3",
                "DELIVERY_LEASE_SECONDS": "20",
                "API_RATE": "1000",
                "SEND_RATE": "1000",
            },
        )
        figures = chaos.run(started["site_url"], workspace, key)
    finally:
        internet.end()
    return {"bench": "crash", "seed": options.seed, **figures} | {
        "seconds": round(time.monotonic() - begun, 1)
    }


def _patiently(work: Callable[[], T], *, seconds: float = 60.0) -> T:
    """Do `work` again until the database, which is being killed, lets it through."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return work()
        except (DatabaseError, InterfaceError, Conflict):  # Conflict: a worker compiles it
            connection.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


class _Chaos:
    def __init__(
        self, options: CrashOptions, host: Host, internet: Child, say: Callable[[str], None]
    ) -> None:
        self._options = options
        self.hits = max(len(KINDS), round(options.seconds / _HIT_SECONDS))
        self._host = host
        self._internet = internet
        self._say = say
        self._random = random.Random(options.seed)  # noqa: S311 (chaos that can be repeated)
        self._kills: Counter[str] = Counter()
        self._open: Counter[str] = Counter()
        self._begun = time.monotonic()
        self._moments: list[tuple[float, float, str]] = []  # begun, over, kind
        self._stop_seconds: list[dict[str, float]] = []

    def run(self, site_url: str, workspace: Workspace, key: str) -> dict[str, Any]:
        traffic = Traffic(site_url, key, domains=_DOMAINS, per_second=self._options.api_rate)
        traffic.start()
        self._hit_all(workspace, self.hits)
        traffic.end()
        self._say("settling")
        settled = self._settle()
        figures = self._figures(traffic)
        return figures | {
            "settle_seconds": round(settled, 1),
            "api": dict(traffic.accepted.statuses),
        }

    # -- the workload ------------------------------------------------------------------------

    def make_workspace(self) -> tuple[Workspace, str]:
        """Import the list before the workers are there, whose sweeps would take the import."""
        people = max(1, self._options.recipients // self.hits)
        workspace = make_workspace()
        with tempfile.TemporaryDirectory(prefix="mailwright-bench-") as folder:
            path = Path(folder) / "people.csv"
            write_people(path, rows=people, domains=_DOMAINS, flawed=False)
            import_file(workspace, path)
        with scope(workspace.tenant.pk):
            _, key = create_key(actor=workspace.actor, name="Shop", scopes=["messages:send"])
        return workspace, key

    def _start_campaign(self, workspace: Workspace) -> None:
        """Start a campaign to the whole list, from whatever is alive."""
        try:
            _patiently(lambda: start_campaign(workspace, sign="rsa"))
        except (DatabaseError, InterfaceError, DomainError) as error:
            self._say(f"a campaign could not be started: {error}")

    # -- the kills ---------------------------------------------------------------------------

    def _hit_all(self, workspace: Workspace, hits: int) -> None:
        """Kill again and again, each time with a campaign on its way."""
        kinds: list[str] = []
        while len(kinds) < hits:
            kinds += self._random.sample(KINDS, len(KINDS))
        for kind in kinds[:hits]:
            before = self._ask_internet("counts")["messages"]
            self._start_campaign(workspace)
            self._wait_for_mail(before)
            time.sleep(self._random.uniform(0.0, 1.5))
            self._hit(kind)

    def _wait_for_mail(self, before: int) -> None:
        """Wait until mail flows after the last kill; where it does not, the next one comes too."""
        deadline = time.monotonic() + _RECOVERY_SECONDS
        while time.monotonic() < deadline:
            if self._ask_internet("counts")["messages"] > before + _FLOWING_MESSAGES:
                return
            time.sleep(0.05)

    def _hit(self, kind: str) -> None:
        self._kills[kind] += 1
        begun = time.monotonic()
        try:
            self._do(kind)
        finally:
            self._moments.append((begun, time.monotonic(), kind))

    def _do(self, kind: str) -> None:
        pause = self._random.uniform(0.2, 2.0)
        number = self._random.randrange(1000)
        if kind == "terminate":
            self._stop_seconds.append(self._host.ask("terminate")["seconds"])
            self._say(f"terminate: {self._stop_seconds[-1]}")
            return
        self._host.ask("freeze", kind=kind, number=number)
        now = self._ask_internet("open")["open"]
        self._open[kind] += now
        self._host.ask("kill", kind=kind, pause=pause)
        self._say(f"{kind}: {now} open")

    def _ask_internet(self, line: str) -> dict[str, Any]:
        self._internet.say(line)
        answer: dict[str, Any] = json.loads(self._internet.hear())
        return answer

    # -- the end -----------------------------------------------------------------------------

    def _settle(self) -> float:
        """Wait until nothing waits any more; returns the seconds it took, at most the limit."""
        begun = told_at = time.monotonic()
        while time.monotonic() - begun < self._options.settle_seconds:
            if not _patiently(QueueEntry.objects.exists) and not _patiently(_unprepared):
                break
            if time.monotonic() - told_at > _TELL_SECONDS:
                told_at = time.monotonic()
                self._say(f"{_patiently(QueueEntry.objects.count)} waiting: {_first_reason()}")
            time.sleep(0.5)
        return time.monotonic() - begun

    def _figures(self, traffic: Traffic) -> dict[str, Any]:
        ledger = self._ledger()
        states = _patiently(States.read)
        accepted = traffic.accepted
        promised = {from_public("msg", text): name for text, name in accepted.ids.items()}
        broken = states.broken_promises(promised)
        wrong = states.disagreeing(ledger)
        doubled, unexplained = ledger.doubled(), ledger.unexplained()
        counts = self._ask_internet("counts")
        kept_and_cut = counts["cuts"].get("before-reply", 0)
        return {
            "lost": _patiently(missing_of_campaigns) + len(broken) + len(wrong),
            "duplicates": len(doubled),
            "stuck": len(states.waiting) + _patiently(_unprepared),
            "open_at_kill": sum(self._open.values()) + kept_and_cut,
            "kills": sum(self._kills.values()),
            "unexplained": len(unexplained),
            "sigterm_duplicates": sum(self._is_of_a_deploy(first.at) for first, _ in unexplained),
            "other_message_ids": len(ledger.under_other_names()),
            "accepted_twice": len(states.accepted_twice(accepted.asked)),
            "miscounted": _patiently(miscounted),
            "kills_by_kind": dict(self._kills),
            "open_by_kind": dict(self._open),
            "taken_and_cut": kept_and_cut,
            "cuts": counts["cuts"],
            "interrupted": counts["interrupted"],
            "messages": len(states.by_id),
            "promised_by_api": len(promised),
            "answers_not_read": accepted.not_read,
            "states": dict(Counter(status for status, _ in states.by_id.values())),
            "sigterm_seconds": max(
                (max(seconds.values()) for seconds in self._stop_seconds), default=0.0
            ),
            "doubled": doubled_words(unexplained, begun=self._begun, moments=self._moments),
            "wrong": [str(key) for key in (*wrong, *broken)[:5]],
            "waiting": _patiently(waiting_words),
        }

    def _is_of_a_deploy(self, taken_at: float) -> bool:
        return any(
            kind == "terminate" and start - 1 < taken_at < end for start, end, kind in self._moments
        )

    def _ledger(self) -> Ledger:
        path = Path(settings.DATA_DIR) / "ledger"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._ask_internet(f"ledger {path}")
        return Ledger.read(path)


def _first_reason() -> str:
    words = _patiently(waiting_words)
    return words[0] if words else "nothing"


def _started() -> list[Campaign]:
    drafts = (Campaign.Status.DRAFT, Campaign.Status.SCHEDULED)
    return list(Campaign.unscoped.exclude(status__in=drafts))


def _unprepared() -> int:
    """Return how many started campaigns have not come to their end."""
    return sum(campaign.status != Campaign.Status.SENT for campaign in _started())
