"""`manage.py bench crash`: campaigns and API traffic while everything is killed in turn.

Afterwards every message with a 202, and every message of a started campaign, must be in one final
state that agrees with the providers' own record: `lost` and `stuck` 0, and `duplicates` at most
`open_at_kill`. That is the number of SMTP transactions open when something was killed, plus those
that a provider took and cut before its reply. SIGTERM (a deploy) adds none.

`esp.stack.crash` owns the servers and programs and does what is asked of it here.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from esp.lib.errors import Conflict, DomainError
from esp.lib.ids import decode, from_public
from sending.campaigns.models import Campaign
from sending.management.bench.crash_internet import is_refused
from sending.management.bench.crash_traffic import Traffic
from sending.management.bench.delivery import Child
from sending.management.bench.people import write_people
from sending.management.bench.workspace import (
    Workspace,
    import_file,
    make_workspace,
    start_campaign,
)
from sending.messages.models import Message, QueueEntry
from tenants.apikeys.services import create_key
from tenants.scoping.context import scope

T = TypeVar("T")

KINDS = ("worker", "workers", "web", "scheduler", "valkey", "postgres", "terminate")
_DOMAINS = 6
_HIT_SECONDS = 8.0  # about what a kill with its recovery takes on a quiet machine
_RECOVERY_SECONDS = 25.0
_FLOWING_MESSAGES = 10
_FINAL = set(Message.FINAL)


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
        self._moments: list[tuple[float, str]] = []
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
        self._moments.append((time.monotonic(), kind))
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
        begun = time.monotonic()
        while time.monotonic() - begun < self._options.settle_seconds:
            if not _patiently(QueueEntry.objects.exists) and not _patiently(_unprepared):
                break
            time.sleep(0.5)
        return time.monotonic() - begun

    def _figures(self, traffic: Traffic) -> dict[str, Any]:
        taken = self._ledger()
        copies = {key: len(times) for key, times in taken.items()}
        states = {
            row[0]: (row[1], row[2])
            for row in _patiently(
                lambda: list(Message.unscoped.values_list("id", "status", "recipient"))
            )
        }
        promised = {from_public("msg", text) for text in traffic.accepted.ids}
        missing = _missing_of_campaigns() + len(promised - states.keys())
        waiting = {key for key, (status, _) in states.items() if status not in _FINAL}
        wrong = [
            key
            for key, (status, recipient) in states.items()
            if key not in waiting and not _agrees(status, recipient, copies.get(key, 0))
        ]
        counts = self._ask_internet("counts")
        kept_and_cut = counts["cuts"].get("before-reply", 0)
        return {
            "lost": missing + len(wrong) + len(copies.keys() - states.keys()),
            "duplicates": sum(copies.values()) - len(copies),
            "stuck": len(waiting) + _patiently(_unprepared),
            "open_at_kill": sum(self._open.values()) + kept_and_cut,
            "kills": sum(self._kills.values()),
            "kills_by_kind": dict(self._kills),
            "open_by_kind": dict(self._open),
            "taken_and_cut": kept_and_cut,
            "cuts": counts["cuts"],
            "interrupted": counts["interrupted"],
            "messages": len(states),
            "promised_by_api": len(promised),
            "states": dict(Counter(status for status, _ in states.values())),
            "sigterm_seconds": max(
                (max(seconds.values()) for seconds in self._stop_seconds), default=0.0
            ),
            "doubled": self._doubled(taken),
            "wrong": [str(key) for key in wrong[:5]],
        }

    def _doubled(self, taken: dict[uuid.UUID, list[float]]) -> list[str]:
        """Say of some doubled messages when their copies came, and what was killed just before."""
        said = []
        for times in taken.values():
            for first, second in itertools.pairwise(times):
                between = [kind for moment, kind in self._moments if first - 1 < moment < second]
                said.append(f"{first - self._begun:.1f}, {second - self._begun:.1f}: {between}")
        return sorted(said)[:100]

    def _ledger(self) -> dict[uuid.UUID, list[float]]:
        """Return the moments at which the providers took copies, by message."""
        path = Path(settings.DATA_DIR) / "ledger"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._ask_internet(f"ledger {path}")
        taken: dict[str, list[float]] = json.loads(path.read_text())
        return {decode(message_id.partition("@")[0]): times for message_id, times in taken.items()}


def _agrees(status: str, recipient: str, copies: int) -> bool:
    """Tell whether a final state is what the providers' record says."""
    if is_refused(recipient):
        # The address is suppressed after its first refusal: later messages are not tried.
        return copies == 0 and status in (Message.Status.BOUNCED, Message.Status.DROPPED)
    return copies > 0 and status == Message.Status.DELIVERED


def _started() -> list[Campaign]:
    drafts = (Campaign.Status.DRAFT, Campaign.Status.SCHEDULED)
    return list(Campaign.unscoped.exclude(status__in=drafts))


def _unprepared() -> int:
    """Return how many started campaigns have not come to their end."""
    return sum(campaign.status != Campaign.Status.SENT for campaign in _started())


def _missing_of_campaigns() -> int:
    """Return how many contacts of the list have not exactly one message in a started campaign."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT count(*)
            FROM sending_campaign campaign
            CROSS JOIN sending_contact contact
            LEFT JOIN (SELECT batch_id, contact_id, count(*) AS copies FROM sending_message
                       GROUP BY 1, 2) AS made
              ON made.batch_id = campaign.batch_id AND made.contact_id = contact.id
            WHERE campaign.status NOT IN ('draft', 'scheduled')
              AND coalesce(made.copies, 0) <> 1
              AND NOT EXISTS (SELECT 1 FROM sending_suppression gone
                              WHERE gone.tenant_id = contact.tenant_id
                                AND gone.email_norm = contact.email_norm)
            """
        )
        return int(cursor.fetchone()[0])
