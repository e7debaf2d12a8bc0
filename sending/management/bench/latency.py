"""`manage.py bench latency`: how long a receipt takes while a campaign goes out at full speed.

Real requests to the real web server; each time is from before the request to the sink's 250, as the
attempt's record has it. The delivery workers are the product's, in processes of their own.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from esp.lib.ids import from_public
from sending.campaigns.models import Campaign
from sending.dispatch.worker import DeliveryWorker
from sending.events.models import Attempt
from sending.management.bench.delivery import Child, child, internet_command, prepared_campaign
from sending.management.bench.people import domain_of
from sending.management.bench.proc import describe_machine
from sending.messages.models import QueueEntry
from tenants.apikeys.services import create_key
from tenants.directory.actor import system_actor
from tenants.scoping.context import scope

_DOMAINS, _ADDRESSES = 20, 5
_START_SECONDS, _ARRIVE_SECONDS = 60.0, 30.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request of the API: when it was begun and answered (Unix seconds)."""

    begun: float
    answered: float


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where the time of one message went, in seconds.

    To the API's answer, from there to the beginning of its attempt, and with the receiver. A worker
    may have it before the answer is read: then it waited less than nothing.
    """

    answer_seconds: float
    queue_seconds: float
    smtp_seconds: float

    @property
    def seconds(self) -> float:
        """From the request to the sink's 250."""
        return self.answer_seconds + self.queue_seconds + self.smtp_seconds


def bench_latency(
    *, recipients: int, requests: int, per_second: float, workers: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Measure and return the figures; `say` takes progress."""
    campaign, made, _ = prepared_campaign(recipients, sign="rsa")
    actor = system_actor(campaign.tenant_id, "Benchmark")
    with scope(campaign.tenant_id):
        _, key = create_key(actor=actor, name="Shop", scopes=["messages:send"])
    with ExitStack() as stack:
        internet = stack.enter_context(child(internet_command(_DOMAINS, _ADDRESSES)))
        where = json.loads(internet.hear())
        environment = {
            "SMTP_PORT": str(where["smtp_port"]),
            "DNS_RESOLVERS": f"127.0.0.1:{where['dns_port']}",
        }
        url = stack.enter_context(_web(environment))
        pump = stack.enter_context(child(_manage("pump"), environment))
        pump.hear()
        _ask(url, key, 0)  # the first compiles a content and opens connections
        broadcast = [
            stack.enter_context(child(_manage("worker", str(campaign.batch_id)), environment))
            for _ in range(workers)
        ]
        for one in broadcast:
            one.hear()
        for one in broadcast:
            one.say("go")
        time.sleep(1.0)
        say(f"sending {requests} receipts beside {made:,} newsletters")
        sent = _requests(url, key, requests, per_second)
        was_busy = _is_left(campaign)
        receipts = _arrived(sent)
        for one in broadcast:  # they end when the campaign does: the rest is not waited for
            one.kill()
    return {
        "bench": "latency",
        "campaign": made,
        "campaign_was_under_way_at_the_end": was_busy,
        "requests": len(sent),
        "arrived": len(receipts),
        **_percentiles("", [one.seconds for one in receipts]),
        **_percentiles("answer_", [one.answer_seconds for one in receipts]),
        **_percentiles("queue_", [one.queue_seconds for one in receipts]),
        **_percentiles("smtp_", [one.smtp_seconds for one in receipts]),
        "machine": describe_machine(),
    }


_PARTS = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))


def _manage(*arguments: str) -> list[str]:
    return [sys.executable, str(settings.ROOT / "manage.py"), "bench", *arguments]


@contextmanager
def _web(environment: dict[str, str]) -> Iterator[str]:
    """Run the web server as production does; yields the address of the API's messages."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1",
        "--port", str(port), "--workers", "1", "--blocking-threads", "8", "--no-ws",
        "--log-level", "warning", "esp.wsgi:application",
    ]  # fmt: skip
    mine = {**environment, "MAILWRIGHT_PROCESS": "web"}
    server = Child(command, mine)
    try:
        url = f"http://127.0.0.1:{port}"
        end = time.monotonic() + _START_SECONDS
        while not _answers(url):
            if time.monotonic() > end:
                raise RuntimeError("the web server of the benchmark did not start")
            time.sleep(0.2)
        yield f"{url}/api/v1/messages"
    finally:
        server.stop()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=2):  # noqa: S310 (our loopback)
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return error.code < 500
    except OSError:
        return False


def _ask(url: str, key: str, number: int) -> uuid.UUID:
    """Send one message by the API; returns its id."""
    body = {
        "from": {"email": "news@bench.example", "name": "Bench"},
        "to": [{"email": f"buyer{number}@{domain_of(number, _DOMAINS)}"}],
        "subject": "Your order",
        "html": "<p>Thank you for your order.</p>",
    }
    request = urllib.request.Request(  # noqa: S310 (our own loopback address)
        url,
        data=json.dumps(body).encode(),
        headers={
            "Host": settings.PRODUCT_DOMAIN,
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/json",
            "Idempotency-Key": str(uuid.uuid4()),
        },
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return from_public("msg", json.load(answer)["messages"][0]["id"])


def _requests(url: str, key: str, count: int, per_second: float) -> dict[uuid.UUID, Request]:
    """Send `count` messages at an even rate; returns the times of each message's request."""
    made: dict[uuid.UUID, Request] = {}

    def one(number: int) -> None:
        begun = time.time()
        message_id = _ask(url, key, number)
        made[message_id] = Request(begun, time.time())

    threads = []
    start = time.monotonic()
    for number in range(1, count + 1):
        time.sleep(max(0.0, start + number / per_second - time.monotonic()))
        thread = threading.Thread(target=one, args=(number,))
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()
    return made


def _arrived(sent: dict[uuid.UUID, Request]) -> list[Receipt]:
    """Return those that arrived in time."""
    end = time.monotonic() + _ARRIVE_SECONDS
    found = Attempt.unscoped.filter(message_id__in=list(sent), outcome="delivered")
    while found.count() < len(sent) and time.monotonic() < end:
        time.sleep(0.2)
    return [
        _receipt(sent[message_id], at.timestamp(), sum(timings.values()))
        for message_id, at, timings in found.values_list("message_id", "at", "timings")
    ]


def _receipt(request: Request, arrived: float, smtp_seconds: float) -> Receipt:
    queued = arrived - smtp_seconds - request.answered
    return Receipt(request.answered - request.begun, queued, smtp_seconds)


def _percentiles(prefix: str, seconds: Sequence[float]) -> dict[str, float | None]:
    ordered = sorted(seconds)
    return {f"{prefix}{name}_ms": _percentile(ordered, part) for name, part in _PARTS}


def _percentile(seconds: Sequence[float], part: float) -> float | None:
    if not seconds:
        return None
    return round(1000 * seconds[min(len(seconds) - 1, int(part * len(seconds)))], 1)


def _is_left(campaign: Campaign) -> bool:
    """Tell whether something of the campaign waits: by the queue, not by all its messages."""
    assert campaign.batch_id is not None
    return QueueEntry.objects.filter(batch_id=campaign.batch_id).exists()


def pump() -> None:
    """Deliver transactional mail, slice by slice, until this process is ended."""
    worker = DeliveryWorker("transactional", lingers=True)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    parent = os.getppid()
    while os.getppid() == parent:
        worker.run_slice(seconds=5.0)
