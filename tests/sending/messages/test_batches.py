"""Set-based preparation of a batch; pause, resume, cancel."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from deliverability.domains.models import Domain
from esp.lib.errors import Conflict, PermissionMissing
from esp.lib.ids import made_at
from sending.events.models import Event, StatBucket
from sending.messages.models import Batch, Message, MessageSpan, QueueEntry
from sending.messages.queue import UUID7_SQL, insert_messages_from_select
from sending.messages.services import (
    batch_for_api,
    cancel_batch,
    clear_cancelled,
    pause_batch,
    resume_batch,
)
from sending.messages.spans import open_span
from tenants.directory.actor import Actor
from tenants.scoping.context import scope
from tests import make
from tests.cast import Cast

SELECT = """
SELECT id AS contact_id, email_norm AS email, first_name, last_name,
       attributes AS variables
FROM sending_contact WHERE tenant_id = %(tenant)s
"""


@pytest.fixture
def batch(cast: Cast) -> Batch:
    return make.batch(cast.acme)


def _prepare(batch: Batch, domain: Domain) -> int:
    content = make.message_content(domain)
    return insert_messages_from_select(
        batch=batch,
        content_id=content.pk,
        span=open_span(batch, size=10),
        select=SELECT,
        params={"tenant": batch.tenant_id},
        now=timezone.now(),
    )


def test_sql_makes_real_uuid7s(db: None) -> None:
    before = timezone.now() - dt.timedelta(milliseconds=2)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {UUID7_SQL} FROM generate_series(1, 2000)")
        made: list[uuid.UUID] = [row[0] for row in cursor.fetchall()]
    assert len(set(made)) == 2000
    assert {value.version for value in made} == {7}
    assert {value.variant for value in made} == {uuid.RFC_4122}
    assert all(before <= made_at(value) <= timezone.now() for value in made)


def test_each_contact_becomes_one_message(batch: Batch, acme_domain: Domain, cast: Cast) -> None:
    for number in range(3):
        make.contact(cast.acme, f"reader{number}@bigmail.test", first_name=f"R{number}",
                     last_name="Lee", attributes={"city": "Graz"})  # fmt: skip
    make.contact(cast.globex, "other@bigmail.test")
    assert _prepare(batch, acme_domain) == 3
    message = Message.unscoped.get(recipient="reader1@bigmail.test")
    assert message.addressee == "R1 Lee"
    assert message.filling == {
        "email": "reader1@bigmail.test", "first_name": "R1", "last_name": "Lee", "city": "Graz",
    }  # fmt: skip
    assert message.status == "queued"
    assert QueueEntry.objects.get(pk=message.pk).domain == "bigmail.test"
    assert StatBucket.unscoped.get(batch_id=batch.pk).count == 3


def test_ids_of_a_chunk_are_real_uuid7s_in_its_span(
    batch: Batch, acme_domain: Domain, cast: Cast
) -> None:
    before = timezone.now() - dt.timedelta(milliseconds=2)
    for _ in range(5):
        make.contact(cast.acme)
    _prepare(batch, acme_domain)
    made = list(Message.unscoped.order_by("id").values_list("id", flat=True))
    assert {value.version for value in made} == {7}
    assert {value.variant for value in made} == {uuid.RFC_4122}
    assert all(before <= made_at(value) <= timezone.now() for value in made)
    span = MessageSpan.unscoped.get()
    assert len(set(made)) == 5
    assert all(span.first_id <= value <= span.last_id for value in made)


def test_a_cancelled_batch_takes_nobody_in(batch: Batch, acme_domain: Domain, cast: Cast) -> None:
    make.contact(cast.acme)
    Batch.unscoped.update(status="cancelled")
    assert _prepare(batch, acme_domain) == 0
    assert not Message.unscoped.exists()


def test_pausing_and_resuming_change_the_status_once(actor: Actor, batch: Batch) -> None:
    pause_batch(actor=actor, batch=batch)
    pause_batch(actor=actor, batch=batch)
    assert Batch.unscoped.get().status == "paused"
    resume_batch(actor=actor, batch=batch)
    resume_batch(actor=actor, batch=batch)
    assert Batch.unscoped.get().status == "running"


def test_cancelling_clears_the_queue_but_not_what_is_on_its_way(
    actor: Actor, batch: Batch, acme_domain: Domain, cast: Cast
) -> None:
    for _ in range(3):
        make.contact(cast.acme)
    _prepare(batch, acme_domain)
    leased = QueueEntry.objects.first()
    assert leased is not None
    lease_end = timezone.now() + dt.timedelta(minutes=3)
    QueueEntry.objects.filter(pk=leased.pk).update(worker="w1", due_at=lease_end)
    cancel_batch(actor=actor, batch=batch)
    assert clear_cancelled() == 2
    assert QueueEntry.objects.get().pk == leased.pk
    assert Message.unscoped.filter(status="cancelled", final_at__isnull=False).count() == 2
    assert Event.unscoped.filter(kind="cancelled").count() == 2
    assert StatBucket.unscoped.get(kind="cancelled").count == 2
    QueueEntry.objects.update(due_at=timezone.now())
    assert clear_cancelled() == 1
    assert not QueueEntry.objects.exists()
    assert clear_cancelled() == 0


def test_what_is_over_cannot_be_resumed(actor: Actor, batch: Batch) -> None:
    cancel_batch(actor=actor, batch=batch)
    for change in (pause_batch, resume_batch):
        with pytest.raises(Conflict):
            change(actor=actor, batch=batch)


def test_the_api_batch_cannot_be_cancelled(actor: Actor, cast: Cast) -> None:
    with scope(cast.acme.pk):
        batch = batch_for_api(cast.acme.pk, "transactional")
        with pytest.raises(Conflict):
            cancel_batch(actor=actor, batch=batch)


@pytest.mark.parametrize("change", [pause_batch, resume_batch, cancel_batch])
def test_it_refuses_lack_of_permission(change: Any, cast: Cast, batch: Batch) -> None:
    with pytest.raises(PermissionMissing):
        change(actor=cast.bob_actor, batch=batch)


@pytest.mark.parametrize("change", [pause_batch, cancel_batch])
def test_another_tenant_changes_nothing(change: Any, cast: Cast, batch: Batch) -> None:
    with pytest.raises(Conflict):
        change(actor=cast.charlie_actor, batch=Batch(pk=batch.pk, kind="campaign"))
    assert Batch.unscoped.get(pk=batch.pk).status == "running"
