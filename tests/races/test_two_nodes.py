"""Two delivery nodes, each with addresses of its own, on one database and one Valkey."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from deliverability.ips.models import DeliveryNode, IpAddress, IpCap, IpPool
from esp.kit.valkey import client
from esp.simulator.client import LedgerFact
from sending.dispatch import posts, pumps, tasks
from sending.events.models import Attempt
from sending.lanes.models import LimitOverride
from sending.messages.models import Batch, Message, QueueEntry
from tests import make
from tests.sending.dispatch.conftest import World, simulator, world
from tests.sending.dispatch.test_delivery import queue, statuses

__all__ = ["simulator", "world"]  # fixtures of the dispatch tests

pytestmark = pytest.mark.timeout(300)

_OF_A, _OF_B = "127.0.2.1", "127.0.2.2"
_PER_SECOND = 10.0
_LEASE_SECONDS = 6
_DEAD_SECONDS = 5
_PROCESSES = {"a": 1, "b": 2}

_NODE = f"""
import time
import django
django.setup()
from django.conf import settings
settings.DELIVERY_LEASE_SECONDS = {_LEASE_SECONDS}
from sending.dispatch.worker import DeliveryWorker
worker = DeliveryWorker("broadcast")
print("ready", flush=True)
while True:
    worker.run_slice(seconds=1.0)
    time.sleep(0.1)
"""


class Nodes:
    """Worker processes by the name of their node."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen[str]] = {}

    def start(self, *names: str) -> None:
        """Start nodes' workers, and wait for the first sign of life of each."""
        before = time.time()
        for name in names:
            self._spawn(name)
        for name in names:
            self._wait_for(name)
        self.until(lambda: min(map(_seen, names)) > before, "no sign of life")

    def _spawn(self, name: str) -> None:
        self.running[name] = subprocess.Popen(
            [sys.executable, "-c", _NODE],
            cwd=Path(__file__).parents[2],
            env=self._environment(name),
            stdout=subprocess.PIPE,
            text=True,
        )

    def _wait_for(self, name: str) -> None:
        out = self.running[name].stdout
        assert out is not None
        assert out.readline().strip() == "ready"

    def _environment(self, name: str) -> dict[str, str]:
        url = os.environ["OWNER_DATABASE_URL"]
        database = url.rpartition("/")[0] + "/" + str(connection.settings_dict["NAME"])
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "esp.settings",
            "OWNER_DATABASE_URL": database,
            "SMTP_PORT": str(settings.SMTP_PORT),
            "DNS_RESOLVERS": ",".join(settings.DNS_RESOLVERS),
            "DELIVERY_NODE": name,
            "DELIVERY_NODE_DEAD_SECONDS": str(_DEAD_SECONDS),
            "DATA_DIR": str(self.folder / name),  # another machine's disk
        }

    def until(self, what: Callable[[], bool], otherwise: str, *, seconds: float = 60.0) -> None:
        """Wait until `what` is so, while the nodes go on running."""
        end = time.monotonic() + seconds
        while not what():
            for name, process in self.running.items():
                assert process.poll() is None, f"the node {name} has ended by itself"
            waiting = QueueEntry.objects.values_list("hold", "reason", "worker").distinct()[:5]
            assert time.monotonic() < end, (otherwise, list(waiting))
            time.sleep(0.1)

    def kill(self, name: str) -> None:
        """Let a node die."""
        process = self.running.pop(name)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()


def _seen(name: str) -> float:
    node = DeliveryNode.objects.filter(name=name).first()
    return node.seen_at.timestamp() if node else 0.0


@pytest.fixture
def nodes(world: World, tmp_path: Path) -> Iterator[Nodes]:
    nodes = Nodes(tmp_path)
    yield nodes
    for name in list(nodes.running):
        nodes.kill(name)


@pytest.fixture
def globex(world: World) -> World:
    """The same world for Globex, which has no pool of its own."""
    cast = replace(world.cast, acme=world.cast.globex)
    return World(cast, world.client, make.domain(world.cast.globex, "globex.example"))


def split(world: World, *, overflow: str) -> None:
    """Give node a the shared pool, and node b a pool of Acme's own that overflows there or not."""
    shared = IpPool.objects.get()
    IpAddress.objects.filter(address=_OF_A).update(node="a")
    target = None if overflow == "never" else shared
    kind = "dedicated" if overflow == "never" else "hybrid"
    own = make.ip_pool(
        "Acme", kind=kind, is_shared=False, overflow_pool=target, overflow_when=overflow
    )
    make.ip_address(own, _OF_B, node="b", ehlo_name="out2.mailwright.test")
    make.pool_rule(world.cast.acme, own)
    LimitOverride.objects.create(scope="domain", key="plainmail.test", per_second=_PER_SECOND)


def people(name: str, count: int) -> list[str]:
    return [f"{name}{number}@plainmail.test" for number in range(count)]


def sources(batch: Batch) -> Counter[str]:
    ids = Message.unscoped.filter(batch=batch).values_list("pk", flat=True)
    rows = Attempt.unscoped.filter(message_id__in=list(ids), outcome="delivered")
    return Counter(rows.values_list("source_address", flat=True))


def left(batch: Batch) -> int:
    return QueueEntry.objects.filter(batch_id=batch.pk).count()


def delivered(world: World) -> list[LedgerFact]:
    return list(world.client.ledger(kinds=["delivered"]))


def assert_limit_held(facts: list[LedgerFact]) -> None:
    """In no stretch of time did both nodes together send more than the domain's limit."""
    times = sorted(fact.at for fact in facts)
    for first, start in enumerate(times):
        for last in range(first, len(times)):
            allowed = _PER_SECOND * (times[last] - start + 1)
            assert last - first + 1 <= allowed + 1, (start, times[last], last - first + 1)


def test_mail_of_a_killed_node_moves_to_the_overflow_pool_and_limits_hold(
    world: World, globex: World, nodes: Nodes
) -> None:
    split(world, overflow="unavailable")
    nodes.start("a", "b")
    of_acme, of_globex = queue(world, people("ada", 50)), queue(globex, people("bea", 50))
    nodes.until(lambda: sources(of_acme)[_OF_B] >= 5 and sources(of_globex)[_OF_A] >= 5, "no start")
    assert set(sources(of_acme)) == {_OF_B}, "each node sends what its addresses are for"
    in_hand = QueueEntry.objects.filter(batch_id=of_acme.pk).exclude(worker="").count()
    nodes.kill("b")
    killed_at = time.time()
    assert left(of_acme), "killed after its work: nothing is shown"
    nodes.until(lambda: not left(of_acme) and not left(of_globex), "mail is left")
    assert set(statuses(of_acme).values()) == {"delivered"}
    assert set(statuses(of_globex).values()) == {"delivered"}
    assert set(sources(of_acme)) == {_OF_A, _OF_B}
    assert set(sources(of_globex)) == {_OF_A}
    moved = Attempt.unscoped.filter(source_address=_OF_A).exclude(
        message_id__in=Message.unscoped.filter(batch=of_globex).values("pk")
    )
    first = min(moved.values_list("at", flat=True)).timestamp()
    assert first > killed_at + _DEAD_SECONDS - 3, "it moved while the node counted as live"
    facts = delivered(world)
    copies = Counter(fact.recipient for fact in facts)
    assert len(copies) == 100
    assert copies.total() - 100 <= in_hand
    assert_limit_held(facts)


def test_mail_of_a_killed_node_waits_with_the_reason_where_its_pool_says_so(
    world: World, globex: World, nodes: Nodes
) -> None:
    split(world, overflow="never")
    nodes.start("a", "b")
    of_acme = queue(world, people("ada", 40))
    nodes.until(lambda: sources(of_acme)[_OF_B] >= 5, "no start")
    nodes.kill("b")
    waiting = QueueEntry.objects.filter(batch_id=of_acme.pk, hold="node")
    nodes.until(lambda: waiting.count() == left(of_acme) > 0, "no reason was given")
    entry = waiting.first()
    assert entry is not None
    assert "The node b, which has addresses of the pool Acme" in entry.reason
    assert "has given no sign of life since" in entry.reason
    assert entry.attempts == 0, "what was not tried does not count as a try"
    of_globex = queue(globex, people("bea", 10))
    nodes.until(lambda: not left(of_globex), "another tenant's mail waits too")
    assert set(sources(of_acme)) == {_OF_B}
    nodes.start("b")
    nodes.until(lambda: not left(of_acme), "it does not go on", seconds=80)
    assert set(statuses(of_acme).values()) == {"delivered"}
    assert set(sources(of_acme)) == {_OF_B}
    assert_limit_held(delivered(world))


def test_what_is_over_a_nodes_cap_leaves_from_the_other_node_and_none_is_lost_at_its_death(
    world: World, nodes: Nodes
) -> None:
    split(world, overflow="full")
    of_b = IpAddress.objects.get(address=_OF_B)
    IpCap.objects.create(ip=of_b, on=timezone.now().astimezone(dt.UTC).date(), messages=5)
    nodes.start("a", "b")
    of_acme = queue(world, people("ada", 60))
    waiting = QueueEntry.objects.filter(batch_id=of_acme.pk)
    nodes.until(lambda: sources(of_acme)[_OF_A] >= 5, "nothing was passed on")
    in_hand = waiting.exclude(worker="").count()
    nodes.kill("a")
    assert left(of_acme), "killed after its work: nothing is shown"

    nodes.start("a")
    nodes.until(lambda: not left(of_acme), "mail is left", seconds=120)
    assert set(statuses(of_acme).values()) == {"delivered"}
    assert sources(of_acme)[_OF_B] == 5
    facts = delivered(world)
    copies = Counter(fact.recipient for fact in facts)
    assert len(copies) == 60
    assert copies.total() - 60 <= in_hand
    assert_limit_held(facts)


class CeleryNodes(Nodes):
    """Nodes whose workers are Celery's, as production runs them: tasks start their slices."""

    def _spawn(self, name: str) -> None:
        self.running[name] = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "esp.celery", "worker", "-Q", "broadcast",
             "-c", str(_PROCESSES[name]), "-n", f"broadcast@{name}", "-l", "ERROR",
             "--without-gossip", "--without-mingle"],
            cwd=Path(__file__).parents[2], env=self._environment(name), text=True,
            stdout=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def _wait_for(self, name: str) -> None:
        def is_there() -> bool:
            return posts.processes_by_node("broadcast").get(name) == _PROCESSES[name]

        self.until(is_there, f"the node {name} serves no queue", seconds=150)

    def kill(self, name: str) -> None:
        """Let a node die, with the processes that Celery has forked."""
        process = self.running.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def celery_nodes(world: World, tmp_path: Path) -> Iterator[CeleryNodes]:
    keys = ("mw:pumps:broadcast", "mw:posts:broadcast", "broadcast", "broadcast@a", "broadcast@b")
    client().delete(*keys)
    nodes = CeleryNodes(tmp_path)
    yield nodes
    for name in list(nodes.running):
        nodes.kill(name)
    client().delete(*keys)


def test_a_new_message_starts_on_the_node_whose_address_it_leaves_from(
    world: World, globex: World, celery_nodes: CeleryNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    split(world, overflow="never")
    LimitOverride.objects.all().delete()  # nothing but the wrong node may hold it up
    celery_nodes.start("b")
    of_globex = queue(globex, people("bea", 1))
    monkeypatch.setattr(settings, "DELIVERY_NODE", "a")
    posts.announce("broadcast", worker="soon", processes=1)
    tasks.wake()
    idle = lambda: client().llen("broadcast@b") == 0 and pumps.alive("broadcast") == 0  # noqa: E731
    celery_nodes.until(idle, "the pumps of b go on")
    assert client().llen("broadcast@a") == 1, "what is a's to do waits for a"
    assert left(of_globex) == 1
    celery_nodes.start("a")

    def is_sent() -> bool:
        tasks.wake()  # as the scheduler does
        time.sleep(1.0)
        return not left(of_globex)

    celery_nodes.until(is_sent, "it was not started")
    assert set(sources(of_globex)) == {_OF_A}
