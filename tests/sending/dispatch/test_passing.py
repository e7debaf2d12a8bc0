"""What a node has no room for for long, another one takes that has an address for it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from deliverability.ips.models import DeliveryNode, IpAddress, IpPool
from deliverability.ips.nodes import beat
from deliverability.ips.selectors import forget_sources
from sending.dispatch import tasks
from sending.dispatch.claims import claim, give_back, has_due
from sending.dispatch.invariants import check_queue
from sending.dispatch.passing import take_back
from sending.dispatch.results import expire_overdue
from sending.dispatch.turns import ready_batches
from sending.dispatch.worker import DeliveryWorker
from sending.events.models import Attempt
from sending.lanes.models import LaneState
from sending.messages.models import Batch, Message, QueueEntry
from sending.messages.selectors import queue_entry_of
from sending.messages.waiting import wait_of
from tenants.scoping.context import scope
from tests import make
from tests.sending.dispatch.conftest import World
from tests.sending.dispatch.test_delivery import queue, statuses
from tests.sending.dispatch.test_walks import rows_read

_OF_A, _OF_B = "127.0.2.1", "127.0.2.2"
_SITE = "mx.plainmail.test"


class Node:
    """Runs slices on one of two nodes in turn, each with a worker and addresses of its own."""

    def __init__(self, settings: Any) -> None:
        self._settings = settings
        self._workers: dict[str, DeliveryWorker] = {}

    def be(self, name: str) -> None:
        self._settings.DELIVERY_NODE = name
        forget_sources()

    def run(self, name: str) -> None:
        """Let the node `name` work until it has nothing to do."""
        self.be(name)
        beat(name)
        worker = self._workers.setdefault(name, DeliveryWorker("broadcast"))
        worker.run_slice(seconds=3.0)

    def close(self) -> None:
        """End the workers; a next slice has new ones, which know nothing of those before."""
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()


@pytest.fixture
def node(world: World, settings: Any) -> Iterator[Node]:
    """Two nodes: a has the shared pool, b one of Acme's own, which overflows there when full."""
    shared = IpPool.objects.get()
    IpAddress.objects.filter(address=_OF_A).update(node="a")
    own = make.ip_pool(
        "Acme", kind="hybrid", is_shared=False, overflow_pool=shared, overflow_when="full"
    )
    make.ip_address(own, _OF_B, node="b", ehlo_name="out2.mailwright.test")
    make.pool_rule(world.cast.acme, own)
    beat("a")
    beat("b")
    node = Node(settings)
    yield node
    node.close()
    forget_sources()


def shut(address: str) -> None:
    """Leave no room for long from `address` to plainmail."""
    source = str(IpAddress.objects.get(address=address).pk)
    LaneState.objects.create(source_id=source, site=_SITE, is_paused=True, paused_reason="Warm-up")


def sources(batch: Batch) -> list[str]:
    ids = Message.unscoped.filter(batch=batch).values_list("pk", flat=True)
    rows = Attempt.unscoped.filter(message_id__in=list(ids), outcome="delivered")
    return list(rows.values_list("source_address", flat=True))


def people(count: int) -> list[str]:
    return [f"ada{number}@plainmail.test" for number in range(count)]


def test_what_has_no_room_here_leaves_from_the_other_node(world: World, node: Node) -> None:
    shut(_OF_B)
    batch = queue(world, people(5))
    node.run("b")
    entries = list(QueueEntry.objects.filter(batch_id=batch.pk))
    assert {(one.passed_to, one.hold, one.worker, one.attempts) for one in entries} == {
        ("a", "passed-on", "", 0)
    }
    assert all(one.due_at > timezone.now() + dt.timedelta(seconds=30) for one in entries)
    assert has_due("broadcast", timezone.now()), "the scheduler starts a task for them"
    node.run("a")
    assert set(statuses(batch).values()) == {"delivered"}
    assert sources(batch) == [_OF_A] * 5, "each once"
    facts = list(world.client.ledger(kinds=["delivered"]))
    assert len(facts) == 5


def test_without_room_for_long_it_is_said_who_may_take_it(world: World, node: Node) -> None:
    shut(_OF_B)
    batch = queue(world, people(1))
    node.run("b")
    message = Message.unscoped.get(batch=batch)
    with scope(world.cast.acme.pk):
        wait = wait_of(message, queue_entry_of(message), batch)
    assert wait is not None
    assert wait.causes[0].code == "passed-on"
    assert "An operator has paused mail from 127.0.2.2" in wait.sentence
    assert "The host a may take it before that." in wait.sentence
    report = check_queue(now=timezone.now() + dt.timedelta(minutes=1))
    assert report.is_well, report.findings


def test_the_other_node_takes_only_what_was_passed_on(world: World, node: Node) -> None:
    batch = queue(world, people(4))
    passed = QueueEntry.objects.filter(batch_id=batch.pk).values_list("pk", flat=True)[:2]
    QueueEntry.objects.filter(pk__in=list(passed)).update(passed_to="a")
    node.run("a")
    assert sources(batch) == [_OF_A] * 2
    node.run("b")
    assert sorted(sources(batch)) == [_OF_A] * 2 + [_OF_B] * 2


def test_where_the_pool_overflows_only_when_it_cannot_send_nothing_is_passed_on(
    world: World, node: Node
) -> None:
    IpPool.objects.filter(name="Acme").update(overflow_when="unavailable")
    shut(_OF_B)
    batch = queue(world, people(3))
    node.run("b")
    entries = QueueEntry.objects.filter(batch_id=batch.pk)
    assert set(entries.values_list("passed_to", "hold")) == {("", "paused")}


def test_a_node_without_room_either_lets_it_wait_for_the_first(world: World, node: Node) -> None:
    shut(_OF_B)
    shut(_OF_A)
    batch = queue(world, people(3))
    node.run("b")
    node.run("a")
    entries = QueueEntry.objects.filter(batch_id=batch.pk)
    assert set(entries.values_list("passed_to", "hold")) == {("", "paused")}
    LaneState.objects.filter(source_id=str(IpAddress.objects.get(address=_OF_B).pk)).delete()
    entries.update(due_at=timezone.now())
    node.close()
    node.run("b")
    assert sources(batch) == [_OF_B] * 3


def test_what_was_passed_on_is_due_here_again_when_the_other_does_not_take_it(
    world: World, node: Node
) -> None:
    batch = queue(world, people(2))
    QueueEntry.objects.update(passed_to="a", hold="passed-on", due_at=timezone.now())
    node.run("b")
    assert sources(batch) == [_OF_B] * 2


def test_what_was_passed_on_to_a_node_that_died_comes_back_at_once(
    world: World, node: Node
) -> None:
    batch = queue(world, people(3))
    far = timezone.now() + dt.timedelta(hours=5)
    QueueEntry.objects.update(passed_to="a", hold="passed-on", due_at=far)
    assert take_back(timezone.now()) == 0
    DeliveryNode.objects.filter(name="a").update(seen_at=timezone.now() - dt.timedelta(hours=1))
    tasks.wake()
    assert set(QueueEntry.objects.values_list("passed_to", "hold")) == {("", "")}
    node.run("b")
    assert sources(batch) == [_OF_B] * 3


def test_one_message_is_leased_to_one_of_both_nodes(world: World, node: Node) -> None:
    batch = queue(world, people(1))
    QueueEntry.objects.update(passed_to="a")
    now, lease = timezone.now(), dt.timedelta(minutes=3)
    ours = claim(stream="broadcast", limit=5, worker="of a", now=now, lease=lease, node="a",
                 avoid_batches={batch.pk})  # fmt: skip
    assert [job.is_passed for job in ours] == [True]
    for name in ("a", "b"):
        assert claim(stream="broadcast", limit=5, worker="w", now=now, lease=lease, node=name) == []
    give_back([ours[0].message_id], worker="of a", now=now)
    again = claim(stream="broadcast", limit=5, worker="of a", now=now, lease=lease, node="a",
                  avoid_batches={batch.pk})  # fmt: skip
    assert len(again) == 1, "what is given back is still for this node"
    later = now + dt.timedelta(minutes=4)
    taken_over = claim(stream="broadcast", limit=5, worker="of b", now=later, lease=lease, node="b")
    assert [job.is_taken_over for job in taken_over] == [True], "after a lease anybody may"


def test_what_this_node_leaves_out_is_not_taken_because_it_was_passed_on(
    world: World, node: Node
) -> None:
    batch = queue(world, [*people(2), "ada@bigmail.test"])
    QueueEntry.objects.update(passed_to="a", due_at=timezone.now() + dt.timedelta(hours=1))
    now, lease = timezone.now(), dt.timedelta(minutes=3)
    assert claim(stream="broadcast", limit=5, worker="w", now=now, lease=lease, node="b") == []
    jobs = claim(stream="broadcast", limit=5, worker="w", now=now, lease=lease, node="a",
                 avoid={"plainmail.test"})  # fmt: skip
    assert [job.domain for job in jobs] == ["bigmail.test"]
    full = {(str(batch.pk), "plainmail.test")}
    assert claim(stream="broadcast", limit=5, worker="w", now=now, lease=lease, node="a",
                 full=full) == []  # fmt: skip
    Batch.unscoped.update(status="paused")
    assert ready_batches("broadcast", now, node="a") == []


def test_it_expires_like_any_other(world: World, node: Node) -> None:
    shut(_OF_B)
    batch = queue(world, people(1))
    end = timezone.now() + dt.timedelta(seconds=90)
    QueueEntry.objects.update(expires_at=end)
    Message.unscoped.update(expires_at=end)
    node.run("b")
    entry = QueueEntry.objects.get(batch_id=batch.pk)
    assert entry.passed_to == "a"
    assert entry.due_at <= end
    Batch.unscoped.update(created_at=timezone.now() - dt.timedelta(days=9))
    assert expire_overdue(now=end + dt.timedelta(seconds=1)) == 1
    assert statuses(batch) == {"ada0@plainmail.test": "expired"}


def test_a_node_that_has_no_address_any_more_leaves_it_to_the_first(
    world: World, node: Node
) -> None:
    batch = queue(world, people(2))
    QueueEntry.objects.update(passed_to="a")
    IpPool.objects.filter(name="Acme").update(overflow_when="never", overflow_pool=None)
    node.run("a")
    assert set(QueueEntry.objects.values_list("passed_to", "worker")) == {("", "")}
    node.run("b")
    assert sources(batch) == [_OF_B] * 2


def test_mail_that_was_passed_on_is_found_without_a_walk_through_the_queue(
    world: World, node: Node
) -> None:
    batch = queue(world, people(1))
    far = timezone.now() + dt.timedelta(hours=1)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO sending_queueentry (message_id, tenant_id, batch_id, domain, due_at,"
            " expires_at, attempts, worker, reason) SELECT gen_random_uuid(), %s, %s, 'a.test',"
            " %s, %s, 0, '', '' FROM generate_series(1, 20000)",
            [batch.tenant_id, batch.pk, far, far + dt.timedelta(hours=1)],
        )
        QueueEntry.objects.filter(domain="plainmail.test").update(passed_to="a", due_at=far)
        for statement in ("SELECT 1", "ANALYZE sending_queueentry"):
            cursor.execute(statement)
            with transaction.atomic():
                before = rows_read()
                ready = ready_batches("broadcast", timezone.now(), node="a")
                assert [(one.batch_id, one.has_passed) for one in ready] == [(batch.pk, True)]
                assert ready_batches("broadcast", timezone.now(), node="c") == []
                assert has_due("broadcast", timezone.now())
                assert take_back(timezone.now()) == 0
                QueueEntry.objects.filter(passed_to="a").update(worker="w")
                between = rows_read()
                assert not has_due("broadcast", timezone.now()), "somebody has it"
                assert rows_read() - between <= 5
                assert between - before <= 20
                transaction.set_rollback(True)
