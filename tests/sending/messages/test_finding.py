"""Finding messages: what came one by one and what was made by parts, in one order."""

from __future__ import annotations

import datetime as dt
import itertools
import time
import uuid

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from deliverability.domains.models import Domain
from esp.lib.ids import new_id
from sending.messages.finding import MessageFilter, find_keys, next_batch_keys
from sending.messages.models import Batch, Message, MessageSpan
from sending.messages.queue import (
    Envelope,
    NewContent,
    NewMessage,
    insert_messages,
    insert_messages_from_select,
)
from sending.messages.retention import forget_old_messages
from sending.messages.selectors import messages_for_recipient, messages_page
from sending.messages.spans import open_span
from tenants.scoping.context import scope
from tests import make
from tests.cast import Cast

READERS = """
SELECT NULL::uuid AS contact_id, 'reader' || n || '@bigmail.test' AS email, '' AS first_name,
       '' AS last_name, '{}'::jsonb AS variables
FROM generate_series(%(first)s::int, %(last)s::int) n
"""


def prepare(batch: Batch, domain: Domain, first: int, last: int) -> list[uuid.UUID]:
    """Make a part of `batch` to the readers of these numbers; return its keys, rising."""
    before = set(Message.unscoped.filter(batch=batch).values_list("pk", flat=True))
    made = insert_messages_from_select(
        batch=batch,
        content_id=make.message_content(domain).pk,
        span=open_span(batch, size=last - first + 1),
        select=READERS,
        params={"first": first, "last": last},
        now=timezone.now(),
    )
    keys = set(Message.unscoped.filter(batch=batch).values_list("pk", flat=True)) - before
    assert len(keys) == made == last - first + 1
    return sorted(keys)


@pytest.fixture
def batch(cast: Cast) -> Batch:
    return make.batch(cast.acme)


def pages(chosen: MessageFilter, size: int) -> list[list[uuid.UUID]]:
    """Return the keys of all pages, newest first, after looking at each from behind as well."""
    found, after = list[list[uuid.UUID]](), None
    while True:
        page = messages_page(chosen, after=after, size=size)
        found.append([row.pk for row in page.rows])
        if len(found) > 1:
            back = messages_page(chosen, before=page.previous_cursor, size=size)
            assert [row.pk for row in back.rows] == found[-2]
        after = page.next_cursor
        if after is None:
            return found


def keys_of(chosen: MessageFilter) -> list[uuid.UUID]:
    return [key for page in pages(chosen, 7) for key in page]


def test_a_list_has_both_kinds_newest_first(batch: Batch, acme_domain: Domain, cast: Cast) -> None:
    content = make.message_content(acme_domain)
    api, other = make.batch(cast.acme, kind="api"), make.batch(cast.acme)
    keys = [make.message(api, content).pk]
    keys += prepare(batch, acme_domain, 1, 40)
    keys += prepare(other, acme_domain, 1, 25)
    time.sleep(0.002)  # ids of Python's have milliseconds
    keys += [make.message(api, content).pk]
    keys += prepare(batch, acme_domain, 41, 60)
    with scope(cast.acme.pk):
        found = keys_of(MessageFilter())
        of_batch = pages(MessageFilter(batch_id=batch.pk), 7)
    assert found == sorted(keys, reverse=True)
    assert [len(page) for page in of_batch] == [7] * 8 + [4]
    assert {key for page in of_batch for key in page} == set(
        Message.unscoped.filter(batch=batch).values_list("pk", flat=True)
    )


def test_filters_narrow_both_kinds(batch: Batch, acme_domain: Domain, cast: Cast) -> None:
    content = make.message_content(acme_domain)
    api = make.batch(cast.acme, kind="api")
    keys = prepare(batch, acme_domain, 1, 30)
    Message.unscoped.filter(pk__in=keys[3:5]).update(status="bounced")
    single = make.message(api, content, status="bounced", tags=["spring"]).pk
    make.message(api, content)
    with scope(cast.acme.pk):
        assert keys_of(MessageFilter(status="bounced")) == [single, keys[4], keys[3]]
        assert keys_of(MessageFilter(tag="spring")) == [single]
        assert keys_of(MessageFilter(tag="spring", batch_id=batch.pk)) == []
        tomorrow = timezone.now() + dt.timedelta(days=1)
        assert pages(MessageFilter(since=tomorrow), 2) == [[]]
        assert pages(MessageFilter(until=tomorrow - dt.timedelta(days=2)), 2) == [[]]
        assert len(keys_of(MessageFilter(until=tomorrow))) == 32


def test_an_address_finds_its_messages_of_every_kind(
    batch: Batch, acme_domain: Domain, cast: Cast
) -> None:
    prepare(batch, acme_domain, 1, 500)
    prepare(batch, acme_domain, 501, 600)
    prepare(make.batch(cast.acme), acme_domain, 17, 17)
    prepare(make.batch(cast.globex), acme_domain, 1, 20)
    content = make.message_content(acme_domain)
    make.message(make.batch(cast.acme, kind="api"), content, "reader17@bigmail.test")
    with scope(cast.acme.pk):
        for number in range(1, 601):
            address = f"reader{number}@bigmail.test"
            found = messages_for_recipient(address)
            assert [one.recipient for one in found] == [address] * (3 if number == 17 else 1)
        assert not messages_for_recipient("reader601@bigmail.test")
        assert len(messages_for_recipient("reader17@bigmail.test", limit=2)) == 2


def test_nobody_finds_another_tenants_messages(
    batch: Batch, acme_domain: Domain, cast: Cast
) -> None:
    prepare(batch, acme_domain, 1, 5)
    with scope(cast.globex.pk):
        for chosen in (
            MessageFilter(),
            MessageFilter(batch_id=batch.pk),
            MessageFilter(recipient="reader1@bigmail.test"),
        ):
            assert find_keys(cast.globex.pk, chosen, limit=10) == []


def test_spans_never_overlap_even_when_the_clock_goes_back(batch: Batch, db: None) -> None:
    now = timezone.now()
    spans = [open_span(batch, size=50_000, now=now) for _ in range(3)]
    spans.append(open_span(batch, size=1, now=now))
    spans.append(open_span(batch, size=3, now=now - dt.timedelta(minutes=10)))
    assert [span.slots for span in spans] == [65536, 65536, 65536, 1, 4]
    for former, later in itertools.pairwise(spans):
        assert former.first_id < former.last_id < later.first_id


def test_a_span_of_a_wrong_clock_is_not_followed(batch: Batch, db: None) -> None:
    wrong = open_span(batch, size=10, now=timezone.now() + dt.timedelta(days=400))
    right = open_span(batch, size=10)
    assert right.last_id < wrong.first_id


def test_a_batch_is_walked_once_from_end_to_end(
    batch: Batch, acme_domain: Domain, cast: Cast
) -> None:
    first = make.message(batch, make.message_content(acme_domain)).pk
    keys = [first, *prepare(batch, acme_domain, 1, 30), *prepare(batch, acme_domain, 31, 50)]
    prepare(make.batch(cast.acme), acme_domain, 1, 9)
    found, after = list[uuid.UUID](), uuid.UUID(int=0)
    while part := next_batch_keys(batch.pk, after=after, limit=8):
        found, after = found + part, part[-1]
    assert found == keys


def test_spans_go_with_their_messages(batch: Batch, acme_domain: Domain, cast: Cast) -> None:
    open_span(batch, size=10, now=timezone.now() - dt.timedelta(days=200))  # nothing of it is left
    prepare(batch, acme_domain, 1, 3)
    forget_old_messages(now=timezone.now(), keep_days=90)
    assert MessageSpan.unscoped.count() == 1


def _read_of(tenant_id: uuid.UUID, chosen: MessageFilter) -> int:
    """Return how many pages of 8 KB the web process reads for the tenant's list."""
    with scope(tenant_id), CaptureQueriesContext(connection) as asked:
        assert find_keys(tenant_id, chosen, limit=20)
    read = 0
    with scope(tenant_id), connection.cursor() as cursor:
        cursor.execute('SET LOCAL ROLE "mailwright_app"')
        for query in asked:
            if "FROM sending_message" in query["sql"]:
                cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query['sql']}")
                plan = cursor.fetchone()[0][0]["Plan"]
                read += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        cursor.execute("RESET ROLE")
    return read


def _accept(batch: Batch, domain: Domain, count: int) -> None:
    now = timezone.now()
    envelope = Envelope(batch.tenant_id, batch.pk, "transactional", [], "{}", now, now)
    insert_messages(
        envelope,
        NewContent(new_id(), domain.pk, f"hello@{domain.name}", compiled={}),
        [
            NewMessage(new_id(), f"buyer{number}@bigmail.test", "", "{}", "bigmail.test")
            for number in range(count)
        ],
    )


def test_no_list_reads_through_the_rest(cast: Cast, acme_domain: Domain) -> None:
    small, large = make.batch(cast.globex), make.batch(cast.acme)
    prepare(small, acme_domain, 1, 20)
    for part in range(4):
        prepare(large, acme_domain, part * 5000 + 1, part * 5000 + 5000)
    _accept(make.batch(cast.acme, kind="api"), acme_domain, 5000)
    prepare(small, acme_domain, 21, 30)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE sending_message, sending_messagespan")
        cursor.execute(
            "SELECT sum(pg_relation_size(relid)) / 8192 FROM pg_partition_tree('sending_message')"
        )
        in_all = cursor.fetchone()[0]
    for tenant, batch in ((cast.acme, large), (cast.globex, small)):
        for chosen in (
            MessageFilter(),
            MessageFilter(batch_id=batch.pk),
            MessageFilter(recipient="reader7@bigmail.test"),
        ):
            assert _read_of(tenant.pk, chosen) < 80 < in_all / 4
    assert _read_of(cast.acme.pk, MessageFilter(recipient="buyer7@bigmail.test")) < 80
