"""Whose turn it is: weights, priorities, holds, and a small tenant beside a huge campaign."""

from __future__ import annotations

import datetime as dt
import random
import threading
import time
import uuid
from collections import Counter

import pytest
from django.db import connection, connections
from django.db.backends.utils import CursorWrapper
from django.utils import timezone

from deliverability.holds.models import SendingHold
from sending.dispatch.claims import Job, claim
from sending.dispatch.turns import Ready, allot, ready_batches
from sending.dispatch.worker import DeliveryWorker
from sending.messages.models import Batch, Message, MessageContent, QueueEntry
from tests import make
from tests.cast import Cast
from tests.sending.dispatch.conftest import World
from tests.sending.dispatch.test_delivery import queue as queue_mail


def fill(batch: Batch, content: MessageContent, count: int) -> None:
    """Put `count` due messages into a batch."""
    now = timezone.now()
    for number in range(count):
        message = make.message(batch, content, f"r{number}@plainmail.test")
        QueueEntry.objects.create(
            message_id=message.pk, tenant_id=batch.tenant_id, batch_id=batch.pk,
            domain="plainmail.test", due_at=now, expires_at=now + dt.timedelta(days=1),
        )  # fmt: skip


@pytest.fixture
def batches(cast: Cast) -> tuple[Batch, Batch]:
    """A batch of Acme's with 40 messages and one of Globex's with 40."""
    found = []
    for tenant, name in ((cast.acme, "acme.example"), (cast.globex, "globex.example")):
        batch = make.batch(tenant)
        fill(batch, make.message_content(make.domain(tenant, name)), 40)
        found.append(batch)
    return found[0], found[1]


def ask(limit: int, **more: object) -> list[Job]:
    lease = dt.timedelta(minutes=1)
    return claim(
        stream="broadcast", limit=limit, worker="w", now=timezone.now(), lease=lease, **more
    )  # type: ignore[arg-type]


def counts(jobs: list[Job]) -> dict[uuid.UUID, int]:
    return dict(Counter(job.batch_id for job in jobs))


def test_a_tenant_of_weight_three_gets_three_turns_to_one(
    cast: Cast, batches: tuple[Batch, Batch]
) -> None:
    cast.acme.weight = 3
    cast.acme.save()
    assert counts(ask(40)) == {batches[0].pk: 30, batches[1].pk: 10}


def test_what_one_tenant_has_not_another_gets(cast: Cast, batches: tuple[Batch, Batch]) -> None:
    QueueEntry.objects.filter(batch_id=batches[0].pk).delete()
    QueueEntry.objects.filter(
        pk__in=QueueEntry.objects.filter(batch_id=batches[1].pk).values("pk")[5:]
    ).update(due_at=timezone.now())
    assert counts(ask(30)) == {batches[1].pk: 30}


def test_inside_a_tenant_the_higher_priority_goes_first(cast: Cast) -> None:
    content = make.message_content(make.domain(cast.acme, "acme.example"))
    urgent, usual = make.batch(cast.acme), make.batch(cast.acme)
    Batch.unscoped.filter(pk=urgent.pk).update(priority=5)
    fill(usual, content, 20)
    fill(urgent, content, 6)
    assert counts(ask(6)) == {urgent.pk: 6}
    assert counts(ask(6)) == {usual.pk: 6}


def test_one_claim_fills_up_from_lower_priorities(cast: Cast) -> None:
    content = make.message_content(make.domain(cast.acme, "acme.example"))
    urgent, usual = make.batch(cast.acme), make.batch(cast.acme)
    Batch.unscoped.filter(pk=urgent.pk).update(priority=5)
    fill(usual, content, 20)
    fill(urgent, content, 6)
    assert counts(ask(10)) == {urgent.pk: 6, usual.pk: 4}


def hold(batch: Batch, *, whole: bool = False, **more: object) -> SendingHold:
    return SendingHold.unscoped.create(
        tenant_id=batch.tenant_id, batch_ref=None if whole else batch.pk, reason="Too many bounces",
        **more,
    )  # fmt: skip


def test_held_batches_and_tenants_keep_their_mail(batches: tuple[Batch, Batch]) -> None:
    first = hold(batches[0])
    hold(batches[1], whole=True, stream="broadcast", until=timezone.now() + dt.timedelta(hours=1))
    assert ask(10) == []
    SendingHold.unscoped.filter(pk=first.pk).update(lifted_at=timezone.now())
    assert counts(ask(10)) == {batches[0].pk: 10}


def test_a_hold_that_is_over_or_of_the_other_stream_holds_nothing(
    batches: tuple[Batch, Batch],
) -> None:
    hold(batches[0], until=timezone.now() - dt.timedelta(seconds=1))
    hold(batches[1], whole=True, stream="transactional")
    assert len(counts(ask(10))) == 2


def test_a_batch_that_was_paused_a_moment_ago_gives_nothing(
    batches: tuple[Batch, Batch],
) -> None:
    seen = ready_batches("broadcast", timezone.now())
    Batch.unscoped.filter(pk=batches[0].pk).update(status="paused")
    assert counts(ask(10, ready=seen)) == {batches[1].pk: 10}


def test_batches_for_other_nodes_are_left_alone(batches: tuple[Batch, Batch]) -> None:
    assert counts(ask(10, avoid_batches={batches[0].pk})) == {batches[1].pk: 10}


def test_a_batch_that_has_enough_for_a_domain_leaves_it_to_the_others(
    batches: tuple[Batch, Batch],
) -> None:
    full = {(str(batches[0].pk), "plainmail.test"), (str(batches[1].pk), "mail.test")}
    assert counts(ask(10, full=full)) == {batches[1].pk: 10}
    assert counts(ask(10, full={(str(batches[0].pk), "plain"), (str(batches[0].pk), "test")})) == {
        batches[0].pk: 5, batches[1].pk: 5,
    }  # fmt: skip


def test_a_claim_takes_the_words_of_the_wait_away(batches: tuple[Batch, Batch]) -> None:
    QueueEntry.objects.update(hold="rate", reason="The lane is full.")
    job = ask(1)[0]
    entry = QueueEntry.objects.get(pk=job.message_id)
    assert (entry.hold, entry.reason, entry.worker) == ("", "", "w")


def test_shares_are_whole_and_add_up() -> None:
    ready = [Ready(uuid.UUID(int=n), uuid.UUID(int=n), 1 + n % 3, 0) for n in range(1, 8)]
    shares = allot(ready, 100, random.Random(7))
    assert sum(shares.values()) == 100
    assert min(shares.values()) >= 1


def test_with_more_tenants_than_places_all_get_their_turn_in_time() -> None:
    ready = [Ready(uuid.UUID(int=n), uuid.UUID(int=n), 1, 0) for n in range(1, 301)]
    chance = random.Random(1)
    seen: set[uuid.UUID] = set()
    for _ in range(60):
        shares = allot(ready, 40, chance)
        assert len(shares) == 40
        seen |= shares.keys()
    assert len(seen) == 300


def test_a_huge_campaign_delays_another_tenants_first_message_by_no_more_than_seconds(
    world: World, worker: DeliveryWorker
) -> None:
    huge = queue_mail(world, [f"r{n}@plainmail.test" for n in range(1500)])
    domain = make.domain(world.cast.globex, "globex.example")
    content = make.message_content(domain)
    small = make.batch(world.cast.globex)
    taken: list[float] = []

    def send_one() -> None:
        time.sleep(1.0)
        begun = time.monotonic()
        fill(small, content, 1)
        while QueueEntry.objects.filter(batch_id=small.pk).exists():
            time.sleep(0.02)
        taken.append(time.monotonic() - begun)
        connections.close_all()

    thread = threading.Thread(target=send_one)
    thread.start()
    end = time.monotonic() + 30
    while thread.is_alive() and time.monotonic() < end:
        worker.run_slice(seconds=2.0)
    thread.join()
    assert taken[0] < 5.0, taken
    assert QueueEntry.objects.filter(batch_id=huge.pk).exists()  # the campaign was still under way
    assert Message.unscoped.get(batch_id=small.pk).status in {"delivered", "bounced"}


def test_who_has_due_mail_is_told_without_a_walk_through_the_queue(
    batches: tuple[Batch, Batch],
) -> None:
    """Neither right after a fill nor after ANALYZE: PostgreSQL liked to join all of the queue."""
    QueueEntry.objects.all().delete()
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO sending_queueentry (message_id, tenant_id, batch_id, domain, due_at,"
            " expires_at, attempts, worker, reason) SELECT gen_random_uuid(), %s, %s, 'a.test',"
            " now(), now() + interval '1 day', 0, '', '' FROM generate_series(1, 20000)",
            [batches[0].tenant_id, batches[0].pk],
        )
        for analysed in (False, True):
            if analysed:
                cursor.execute("ANALYZE sending_queueentry, sending_batch")
            before = _rows_read(cursor)
            ready = ready_batches("broadcast", timezone.now())
            assert [one.batch_id for one in ready] == [batches[0].pk]
            assert _rows_read(cursor) - before <= 4


def _rows_read(cursor: CursorWrapper) -> int:
    """Return how many rows of the queue this transaction has read, in order or by index."""
    cursor.execute(
        "SELECT pg_stat_get_xact_tuples_returned(queue) + pg_stat_get_xact_tuples_fetched(queue)"
        " FROM (SELECT 'sending_queueentry'::regclass::oid) AS of_table (queue)"
    )
    return int(cursor.fetchone()[0])
