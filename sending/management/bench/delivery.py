"""`manage.py bench delivery`: a real campaign to sinks on loopback, by workers in processes.

Claim, render, MIME, DKIM, SMTP and durable results are the product's own; the sink is the lean one
of the simulator. Lost and doubled messages are counted by Message-ID, the sink's against the
database's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from esp.lib.ids import decode
from sending.campaigns.models import Campaign
from sending.campaigns.preparation import finish_if_sent, prepare_campaign
from sending.engine.dkim import multibuffer
from sending.management.bench.people import write_people
from sending.management.bench.proc import (
    TreePeak,
    cpu_seconds,
    describe_machine,
    parent_of,
    peak_rss_mb,
    tree_cpu_seconds,
)
from sending.management.bench.signing import signing_limit
from sending.management.bench.workspace import import_file, make_workspace, start_campaign
from sending.messages.models import Message

_DOMAINS, _ADDRESSES = 20, 5


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    recipients: int
    workers: int
    sign: str
    profile: bool


class Child:
    """A process of the benchmark that is talked to in lines."""

    def __init__(self, command: list[str], environment: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=settings.ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def say(self, line: str) -> None:
        """Send a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        """Wait for a line; raises RuntimeError when the process has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a process of the benchmark ended with {self._process.wait()}")
        return line.strip()

    def kill(self) -> None:
        """End it at once, for one that does not listen."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Ask it to stop, so that it ends the processes it has started; kill it where it won't."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def end(self) -> None:
        """End its input, wait, and kill it where that does not help."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@contextmanager
def child(command: list[str], environment: dict[str, str] | None = None) -> Iterator[Child]:
    started = Child(command, environment)
    try:
        yield started
    finally:
        started.end()


def bench_delivery(options: Options, say: Callable[[str], None]) -> dict[str, Any]:
    """Prepare and deliver a campaign and return the figures; `say` takes profiles and progress."""
    limits = [signing_limit()]
    campaign, made, prepare_seconds = prepared_campaign(options.recipients, sign=options.sign)
    with child(internet_command(_DOMAINS, _ADDRESSES)) as internet:
        where = json.loads(internet.hear())
        run = _Run(options, campaign, internet, where)
        figures = run.deliver(say)
        rate = figures.pop("messages_per_second")
        assert campaign.batch_id is not None
        agreement = _agreement(campaign.batch_id, internet, made)
    finish_if_sent(tenant_id=campaign.tenant_id, campaign_id=campaign.pk)
    limits.append(signing_limit())
    limit = sum(limits) / len(limits)
    return {
        "bench": "delivery",
        "recipients": options.recipients,
        "sign": options.sign,
        "signs_together": multibuffer.available() is not None and settings.DKIM_SIGN_TOGETHER,
        "workers": options.workers,
        "messages_per_second": rate,
        "signing_limit_per_second": round(limit),
        "ratio": round(rate / limit, 3),
        **figures,
        **agreement,
        "prepare_rows_per_second": round(made / prepare_seconds),
        "signing_limits_measured": [round(value) for value in limits],
        "machine": describe_machine() | _versions(),
    }


def internet_command(domains: int, addresses: int) -> list[str]:
    """Return how the simulated internet of a benchmark is started."""
    return [
        sys.executable, "-m", "sending.management.bench.internet",
        "--domains", str(domains), "--addresses", str(addresses),
    ]  # fmt: skip


def prepared_campaign(recipients: int, *, sign: str) -> tuple[Campaign, int, float]:
    """Import people and make a campaign's messages; returns it, how many, and the seconds."""
    workspace = make_workspace()
    with tempfile.TemporaryDirectory(prefix="mailwright-bench-") as folder:
        path = Path(folder) / "people.csv"
        write_people(path, rows=recipients, domains=_DOMAINS, flawed=False)
        import_file(workspace, path)
    campaign = start_campaign(workspace, sign=sign)
    start = time.perf_counter()
    made = prepare_campaign(tenant_id=workspace.tenant.pk, campaign_id=campaign.pk)
    seconds = time.perf_counter() - start
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE sending_queueentry, sending_message, sending_subscription")
    return campaign, made, seconds


class _Run:
    """The delivery itself, with the kernel's figures of everyone who takes part."""

    def __init__(
        self, options: Options, campaign: Campaign, internet: Child, where: dict[str, Any]
    ) -> None:
        self._options = options
        self._batch_id = campaign.batch_id
        self._internet = internet
        self._environment = {
            "SMTP_PORT": str(where["smtp_port"]),
            "DNS_RESOLVERS": f"127.0.0.1:{where['dns_port']}",
        }
        self._postgres = parent_of(_backend_pid())

    def deliver(self, say: Callable[[str], None]) -> dict[str, Any]:
        """Run the workers to the end of the queue."""
        command = [
            sys.executable,
            str(settings.ROOT / "manage.py"),
            "bench",
            "worker",
            str(self._batch_id),
        ]
        if self._options.profile:
            command.append("--profile")
        workers = [Child(command, self._environment) for _ in range(self._options.workers)]
        try:
            for worker in workers:
                worker.hear()
            before = self._cpu()
            with TreePeak(self._postgres) as peak:
                for worker in workers:
                    worker.say("go")
                results = [json.loads(worker.hear()) for worker in workers]
            after = self._cpu()
        finally:
            for worker in workers:
                worker.end()
        for result in results:
            if result["profile"]:
                say(result["profile"])
        self._internet.say("counts")
        sink = json.loads(self._internet.hear())
        return self._figures(results, sink, before, after, peak.megabytes)

    def _cpu(self) -> dict[str, float]:
        return {
            "postgres": tree_cpu_seconds(self._postgres),
            "sink": cpu_seconds(self._internet.pid),
        }

    def _figures(
        self,
        results: list[dict[str, Any]],
        sink: dict[str, Any],
        before: dict[str, float],
        after: dict[str, float],
        postgres_mb: float,
    ) -> dict[str, Any]:
        messages = max(sink["messages"], 1)
        parts: dict[str, float] = {}
        for result in results:
            for part, seconds in result["parts"].items():
                parts[part] = parts.get(part, 0.0) + seconds
        totals = {name: after[name] - before[name] for name in before}
        totals["workers"] = sum(result["cpu_seconds"] for result in results)
        return {
            "messages_per_second": sink["messages_per_second"] or 0.0,
            "cpu_ms_per_message": _per_message(parts, messages),
            "cpu_ms_per_message_by_process": _per_message(totals, messages),
            "peak_rss_mb": {
                "worker": [round(result["peak_rss_mb"], 1) for result in results],
                "sink": round(peak_rss_mb(self._internet.pid), 1),
                "postgres": round(postgres_mb, 1),
            },
            "connections": sink["connections"],
            "bytes_per_message": round(sink["octets"] / messages),
            "outcomes": _sum(result["counts"] for result in results),
        }


def _per_message(seconds: Mapping[str, float], messages: int) -> dict[str, float]:
    return {name: round(value * 1000 / messages, 4) for name, value in sorted(seconds.items())}


def _sum(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(total)


def _backend_pid() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def _agreement(batch_id: uuid.UUID, internet: Child, made: int) -> dict[str, Any]:
    """Compare, message by message, what the database says with what the sink has.

    `lost` are messages that are not both recorded as delivered and held by the sink.
    """
    with tempfile.NamedTemporaryFile(prefix="mailwright-bench-") as file:
        internet.say(f"ids {file.name}")
        internet.hear()
        copies: dict[uuid.UUID, int] = {}
        for line in file:
            number, _, message_id = line.decode().strip().partition(" ")
            copies[decode(message_id.strip("<>").partition("@")[0])] = int(number)
    delivered = set(
        Message.unscoped.filter(batch_id=batch_id, status=Message.Status.DELIVERED)
        .values_list("id", flat=True)
        .iterator()
    )
    return {
        "messages": made,
        "delivered": len(delivered),
        "lost": made - len(delivered & copies.keys()),
        "unknown_to_us": len(copies.keys() - delivered),
        "duplicates": sum(copies.values()) - len(copies),
    }


def _versions() -> dict[str, str]:
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        postgres = str(cursor.fetchone()[0])
    return {"postgresql": postgres}
