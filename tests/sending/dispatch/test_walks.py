"""A claim looks at a bounded part of what waits, and still finds all that may leave."""

from __future__ import annotations

import datetime as dt
import threading
import uuid

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone

from sending.dispatch import walks as walking
from sending.dispatch.claims import Job, claim
from sending.dispatch.walks import Walks
from sending.messages.models import Batch, MessageContent, QueueEntry
from tests import make
from tests.cast import Cast

_ROWS = 200
_SHUT = frozenset({"shut.test"})
# A window is looked at twice where it gave too little, and a claim looks at four.
_MOST_READ = 4 * 2 * _ROWS


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Queue:
    """A running batch, what waits in it, and one worker's claims from it."""

    def __init__(self, cast: Cast) -> None:
        self.batch: Batch = make.batch(cast.acme)
        self.content: MessageContent = make.message_content(make.domain(cast.acme, "acme.example"))
        self.begun = timezone.now() - dt.timedelta(hours=1)
        self.clock = Clock()
        self.walks = Walks(self.clock)

    def fill(self, domain: str, count: int, *, at: float, apart: float = 0.001) -> None:
        """Queue `count` entries due from `at` seconds after the beginning on, `apart` seconds."""
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO sending_queueentry (message_id, tenant_id, batch_id, domain, due_at,"
                " expires_at, attempts, worker, reason)"
                " SELECT gen_random_uuid(), %s, %s, %s, %s + n * %s * interval '1 second',"
                " now() + interval '1 day', 0, '', '' FROM generate_series(1, %s) AS n",
                [self.batch.tenant_id, self.batch.pk, domain,
                 self.begun + dt.timedelta(seconds=at), apart, count],
            )  # fmt: skip

    def add(self, domain: str, *, at: dt.datetime) -> uuid.UUID:
        """Queue one message."""
        message = make.message(self.batch, self.content, f"ada@{domain}")
        QueueEntry.objects.create(
            message_id=message.pk, tenant_id=self.batch.tenant_id, batch_id=self.batch.pk,
            domain=domain, due_at=at, expires_at=at + dt.timedelta(days=1),
        )  # fmt: skip
        return message.pk

    def add_at(self, domain: str, seconds: float) -> uuid.UUID:
        return self.add(domain, at=self.begun + dt.timedelta(seconds=seconds))

    def claim(self, avoid: frozenset[str] = _SHUT, *, full: str = "", limit: int = 10) -> list[Job]:
        """Claim with what the walks remember; the domain `full` is so for this batch alone."""
        return claim(
            stream="broadcast", limit=limit, worker="w", now=timezone.now(), avoid=avoid,
            full={(str(self.batch.pk), full)} if full else (),
            lease=dt.timedelta(minutes=3), walks=self.walks,
        )  # fmt: skip

    def search(self, avoid: frozenset[str] = _SHUT, *, limit: int = 10) -> list[Job]:
        """Claim until something comes or all is seen, as a worker does."""
        while True:
            jobs = self.claim(avoid, limit=limit)
            if jobs or not self.walks.is_under_way:
                return jobs


@pytest.fixture
def queue(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> Queue:
    monkeypatch.setattr(walking, "ROWS", _ROWS)
    monkeypatch.setattr(walking, "_LEAST", _ROWS)
    return Queue(cast)


def rows_read() -> int:
    """Return how many entries this transaction has read, in order or by index."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_stat_get_xact_tuples_returned(queue)"
            " + pg_stat_get_xact_tuples_fetched(queue)"
            " FROM (SELECT 'sending_queueentry'::regclass::oid) AS of_table (queue)"
        )
        return int(cursor.fetchone()[0])


def reads(queue: Queue, avoid: frozenset[str] = _SHUT, *, full: str = "") -> int:
    before = rows_read()
    queue.claim(avoid, full=full)
    return rows_read() - before


def test_a_campaign_to_a_shut_destination_costs_each_claim_a_bounded_look(queue: Queue) -> None:
    queue.fill("shut.test", 20_000, at=0)
    read = [reads(queue) for _ in range(30)]
    assert max(read) <= _MOST_READ, read
    assert not queue.walks.is_under_way, "by now all is seen"
    assert max(read[-3:]) <= 10, "what was seen is not looked at again"


def test_what_is_full_for_this_campaign_alone_is_passed_over_as_well(queue: Queue) -> None:
    queue.fill("full.test", 20_000, at=0)
    read = [reads(queue, frozenset(), full="full.test") for _ in range(30)]
    assert max(read) <= _MOST_READ, read
    assert max(read[-3:]) <= 10


def test_a_claim_that_remembers_nothing_is_bounded_too(queue: Queue) -> None:
    queue.fill("shut.test", 20_000, at=0)
    before = rows_read()
    claim(stream="broadcast", limit=10, worker="w", now=timezone.now(), avoid=_SHUT,
          lease=dt.timedelta(minutes=3))  # fmt: skip
    assert rows_read() - before <= _MOST_READ


def test_the_one_open_message_behind_them_all_is_found(queue: Queue) -> None:
    queue.fill("shut.test", 5000, at=0)
    last = queue.add_at("open.test", 100)
    queue.fill("shut.test", 500, at=101)
    assert [job.message_id for job in queue.search()] == [last]
    assert queue.search() == []


def test_an_open_message_between_entries_of_one_moment_is_found(queue: Queue) -> None:
    queue.fill("shut.test", 3000, at=0, apart=0)
    found = queue.add_at("open.test", 0)
    queue.fill("shut.test", 3000, at=0, apart=0)
    assert [job.message_id for job in queue.search()] == [found]


def test_a_new_message_is_found_at_once_behind_all_that_was_passed_over(queue: Queue) -> None:
    queue.fill("shut.test", 5000, at=0)
    assert queue.search() == []
    new = queue.add("open.test", at=timezone.now())
    before = rows_read()
    assert [job.message_id for job in queue.claim()] == [new]
    assert rows_read() - before <= 20


def test_what_a_worker_gives_back_is_found_again(queue: Queue) -> None:
    queue.fill("shut.test", 5000, at=0)
    key = queue.add_at("open.test", 50)
    assert queue.search()
    assert queue.search() == []
    QueueEntry.objects.filter(pk=key).update(due_at=timezone.now(), worker="")
    assert [job.message_id for job in queue.claim()] == [key]


def test_where_a_destination_opens_its_oldest_message_comes_first(queue: Queue) -> None:
    first = queue.add_at("shut.test", 0)
    queue.fill("other.test", 3000, at=1)
    second = queue.add_at("shut.test", 50)
    both = frozenset({"shut.test", "other.test"})
    assert queue.search(both) == []
    found = [queue.search(frozenset({"other.test"})) for _ in range(2)]
    assert [job.message_id for jobs in found for job in jobs] == [first, second]


def test_it_comes_back_to_what_stays_shut_after_another_has_opened(queue: Queue) -> None:
    queue.fill("shut.test", 3000, at=0)
    middle = queue.add_at("other.test", 10)
    queue.fill("shut.test", 3000, at=11)
    assert queue.search(frozenset({"shut.test", "other.test"})) == []
    assert [job.message_id for job in queue.search()] == [middle]
    later = queue.add("shut.test", at=timezone.now())
    QueueEntry.objects.filter(domain="shut.test").exclude(pk=later).delete()
    assert [job.message_id for job in queue.search(frozenset())] == [later]


def test_what_comes_in_behind_the_walk_is_found_after_a_while(queue: Queue) -> None:
    queue.fill("shut.test", 1000, at=0)
    assert queue.search() == []
    late = queue.add_at("open.test", 0.5)  # by a clock that was far behind, say
    assert queue.search() == []
    queue.clock.seconds += 61
    assert [job.message_id for job in queue.search()] == [late]


def test_an_entry_that_was_committed_late_is_found_soon(queue: Queue) -> None:
    queue.fill("shut.test", 1000, at=0)
    assert queue.search() == []
    late = queue.add("open.test", at=timezone.now() - dt.timedelta(seconds=12))
    found: list[Job] = []
    for _ in range(2):
        queue.clock.seconds += 6
        found += queue.search()
    assert [job.message_id for job in found] == [late]


def test_all_that_may_leave_leaves_however_it_is_mixed(queue: Queue) -> None:
    wanted = set()
    for part in range(12):
        queue.fill("shut.test", 300, at=part)
        wanted |= {queue.add_at(f"open{part % 3}.test", part + 0.1 * n) for n in range(4)}
    found: list[uuid.UUID] = []
    while jobs := queue.search(limit=5):
        found += [job.message_id for job in jobs]
    assert sorted(found) == sorted(wanted), "each once"


def test_another_batchs_mail_is_not_kept_waiting(queue: Queue, cast: Cast) -> None:
    queue.fill("shut.test", 5000, at=0)
    small = make.batch(cast.globex)
    content = make.message_content(make.domain(cast.globex, "globex.example"))
    message = make.message(small, content, "bea@open.test")
    now = timezone.now()
    QueueEntry.objects.create(
        message_id=message.pk, tenant_id=small.tenant_id, batch_id=small.pk, domain="open.test",
        due_at=now, expires_at=now + dt.timedelta(days=1),
    )  # fmt: skip
    assert [job.message_id for job in queue.claim()] == [message.pk]


@pytest.mark.django_db(transaction=True)
def test_what_another_worker_is_about_to_take_is_neither_taken_nor_passed_over(
    queue: Queue,
) -> None:
    queue.fill("shut.test", 300, at=0)
    keys = {queue.add_at("open.test", 1 + n) for n in range(4)}
    theirs: list[Job] = []
    taken, may_end = threading.Event(), threading.Event()

    def take_two() -> None:
        with transaction.atomic():
            theirs.extend(
                claim(stream="broadcast", limit=2, worker="other", now=timezone.now(),
                      avoid=_SHUT, lease=dt.timedelta(minutes=3))
            )  # fmt: skip
            taken.set()
            may_end.wait(20)
            transaction.set_rollback(True)
        connections.close_all()

    thread = threading.Thread(target=take_two)
    thread.start()
    assert taken.wait(20)
    ours = queue.search()
    may_end.set()
    thread.join()
    assert len(theirs) == len(ours) == 2
    assert {job.message_id for job in (*theirs, *ours)} == keys
    again = queue.search()
    assert {job.message_id for job in again} == {job.message_id for job in theirs}
