"""POST /api/v1/messages: what it writes, whom it refuses."""

from __future__ import annotations

import base64
import datetime as dt
import time
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from deliverability.domains.models import Domain
from esp.lib.ids import from_public
from sending.content.types import ContentSource
from sending.events.models import Event, StatBucket
from sending.messages import jobs
from sending.messages.errors import SenderNotVerified
from sending.messages.models import Batch, Message, MessageContent, QueueEntry
from sending.messages.services import accept_messages
from sending.messages.types import Recipient, SendRequest
from tenants.directory.actor import system_actor
from tenants.scoping.context import scope
from tests import make
from tests.cast import Cast
from tests.sending.messages.requests import PATH, body

pytestmark = pytest.mark.usefixtures("acme_domain")


def _rows() -> tuple[int, int, int, int]:
    return (
        Message.unscoped.count(),
        MessageContent.unscoped.count(),
        QueueEntry.objects.count(),
        Event.unscoped.count(),
    )


def test_it_accepts_one_message(api: make.ApiClient, cast: Cast) -> None:
    answer = api.post(PATH, body(tags=["receipt"], metadata={"order": "7"}))
    assert answer.status_code == 202, answer.content
    item = answer.json()["messages"][0]
    message = Message.unscoped.get(pk=from_public("msg", item["id"]))
    assert item == {"id": item["id"], "email": "ada@bigmail.test", "status": "queued", "reason": ""}
    assert message.tenant_id == cast.acme.pk
    assert (message.status, message.tags, message.metadata) == (
        "queued",
        ["receipt"],
        {"order": "7"},
    )
    entry = QueueEntry.objects.get(pk=message.pk)
    assert (entry.domain, entry.attempts) == ("bigmail.test", 0)
    assert entry.due_at <= timezone.now() < entry.expires_at
    assert Event.unscoped.get(message_id=message.pk).kind == "accepted"
    assert StatBucket.unscoped.get(batch_id=message.batch_id, kind="accepted").count == 1


def test_it_wakes_delivery_only_after_the_commit(
    api: make.ApiClient,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(
        "celery.current_app.send_task", lambda name, **kwargs: sent.append(name), raising=False
    )
    with django_capture_on_commit_callbacks(execute=False) as callbacks:
        assert api.post(PATH, body()).status_code == 202
        assert sent == []
    for callback in callbacks:
        callback()
    assert sent == [jobs.DELIVER_TRANSACTIONAL]


def test_it_gives_each_of_1000_recipients_a_message_of_their_own(
    api: make.ApiClient, cast: Cast
) -> None:
    to = [
        {"email": f"reader{number}@bigmail.test", "variables": {"number": number}}
        for number in range(1000)
    ]
    started = time.perf_counter()
    answer = api.post(PATH, body(to=to))
    seconds = time.perf_counter() - started
    assert answer.status_code == 202
    assert answer.json()["queued"] == 1000
    assert [item["email"] for item in answer.json()["messages"]] == [one["email"] for one in to]
    assert _rows() == (1000, 1, 1000, 1000)
    last = Message.unscoped.get(recipient="reader999@bigmail.test")
    assert last.variables == {"number": 999}
    assert StatBucket.unscoped.get(kind="accepted").count == 1000
    assert seconds < 5, f"1,000 recipients took {seconds:.1f} s"


def test_a_suppressed_recipient_is_dropped_and_the_others_are_sent(
    api: make.ApiClient, cast: Cast
) -> None:
    make.suppression(cast.acme, "gone@bigmail.test", reason="bounce")
    make.suppression(cast.acme, "quiet@bigmail.test", scope="broadcast")
    make.suppression(cast.globex, "ada@bigmail.test")
    to = [{"email": f"{name}@bigmail.test"} for name in ("Gone", "quiet", "ada")]
    answer = api.post(PATH, body(to=to)).json()
    assert (answer["queued"], answer["dropped"]) == (2, 1)
    assert answer["messages"][0]["status"] == "dropped"
    assert "suppressed" in answer["messages"][0]["reason"]
    dropped = Message.unscoped.get(recipient="gone@bigmail.test")
    assert dropped.status == "dropped"
    assert dropped.final_at is not None
    assert not QueueEntry.objects.filter(pk=dropped.pk).exists()
    assert Event.unscoped.get(message_id=dropped.pk).kind == "dropped"


def test_broadcast_mail_also_heeds_broadcast_suppressions(api: make.ApiClient, cast: Cast) -> None:
    make.suppression(cast.acme, "quiet@bigmail.test", scope="broadcast")
    answer = api.post(PATH, body(to=[{"email": "quiet@bigmail.test"}], stream="broadcast"))
    assert answer.json()["dropped"] == 1


def test_broadcast_mail_needs_a_postal_address(api: make.ApiClient, cast: Cast) -> None:
    cast.acme.postal_address = ""
    cast.acme.save()
    answer = api.post(PATH, body(stream="broadcast"))
    assert (answer.status_code, answer.json()["code"]) == (422, "postal-address-missing")


def test_a_scheduled_message_waits(api: make.ApiClient) -> None:
    moment = timezone.now() + dt.timedelta(days=2)
    answer = api.post(PATH, body(send_at=moment.isoformat()))
    assert answer.status_code == 202
    entry = QueueEntry.objects.get()
    assert entry.due_at == moment
    assert entry.expires_at > moment
    shown = api.get(f"{PATH}/{answer.json()['messages'][0]['id']}").json()
    assert shown["explanation"].startswith("Scheduled: the message leaves at ")


def test_a_sign_in_code_is_of_use_for_minutes(api: make.ApiClient) -> None:
    assert api.post(PATH, body(ttl_seconds=300)).status_code == 202
    entry = QueueEntry.objects.get()
    assert entry.expires_at - entry.due_at == dt.timedelta(seconds=300)


def test_a_long_life_does_not_outlast_the_streams_patience(api: make.ApiClient) -> None:
    assert api.post(PATH, body(ttl_seconds=604800)).status_code == 202
    entry = QueueEntry.objects.get()
    assert entry.expires_at - entry.due_at <= dt.timedelta(days=1)


def test_a_template_is_frozen_as_it_stands(api: make.ApiClient, cast: Cast) -> None:
    template = make.template(cast.acme, subject="From the template", body="<p>One</p>")
    from esp.lib.ids import to_public

    request = body(html=None, subject=None, template_id=to_public("tpl", template.pk))
    assert api.post(PATH, request).status_code == 202
    content = MessageContent.unscoped.get()
    assert content.compiled["source"]["body"] == "<p>One</p>"
    assert content.compiled["source"]["subject"] == "From the template"


def test_another_tenants_template_does_not_exist(api: make.ApiClient, cast: Cast) -> None:
    from esp.lib.ids import to_public

    template = make.template(cast.globex)
    request = body(html=None, template_id=to_public("tpl", template.pk))
    answer = api.post(PATH, request)
    assert (answer.status_code, answer.json()["code"]) == (422, "template-unknown")


def test_attachments_headers_and_tracking_are_kept(api: make.ApiClient) -> None:
    content = base64.b64encode(b"%PDF-1.7").decode()
    request = body(
        attachments=[
            {"filename": "bill.pdf", "content_type": "application/pdf", "content": content}
        ],
        headers={"X-Order": "7"},
        reply_to="help@acme.example",
        tracking={"opens": True},
    )
    assert api.post(PATH, request).status_code == 202
    kept = MessageContent.unscoped.get()
    assert kept.attachments[0]["filename"] == "bill.pdf"
    assert kept.headers == {"X-Order": "7"}
    assert kept.reply_to == "help@acme.example"
    assert (kept.track_opens, kept.track_clicks) == (True, False)


def test_the_second_request_uses_the_same_batch(api: make.ApiClient) -> None:
    first = api.post(PATH, body()).json()["batch_id"]
    assert api.post(PATH, body()).json()["batch_id"] == first
    assert api.post(PATH, body(stream="broadcast")).json()["batch_id"] != first
    assert Batch.unscoped.count() == 2


def test_it_refuses_a_domain_of_another_tenant(
    globex_api: make.ApiClient, acme_domain: Domain
) -> None:
    answer = globex_api.post(PATH, body())
    assert (answer.status_code, answer.json()["code"]) == (422, "sender-not-verified")
    assert answer.json()["errors"][0]["field"] == "from.email"
    assert _rows() == (0, 0, 0, 0)


def test_it_refuses_a_domain_that_is_not_verified(api: make.ApiClient, cast: Cast) -> None:
    make.domain(cast.acme, "new.example", verified=False)
    answer = api.post(PATH, body(sender={"email": "a@new.example"}))
    assert (answer.status_code, answer.json()["code"]) == (422, "sender-not-verified")


def test_it_refuses_a_key_without_the_scope(cast: Cast) -> None:
    reader = make.api(cast.acme, scopes=["messages:read"])
    answer = reader.post(PATH, body())
    assert (answer.status_code, answer.json()["code"]) == (403, "permission-missing")
    assert _rows() == (0, 0, 0, 0)


def test_it_refuses_a_caller_without_a_key(visitor: Any) -> None:
    answer = visitor.post(PATH, body(), content_type="application/json")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_it_refuses_a_suspended_tenant(api: make.ApiClient, cast: Cast) -> None:
    cast.acme.status = "suspended"
    cast.acme.save()
    answer = api.post(PATH, body())
    assert (answer.status_code, answer.json()["code"]) == (422, "tenant-suspended")
    assert _rows() == (0, 0, 0, 0)


@pytest.mark.django_db(transaction=True)
def test_a_request_asks_the_database_few_times(api: make.ApiClient) -> None:
    api.post(PATH, body())  # makes the batch, notes the key's use, counts the queue
    asked = CaptureQueriesContext(connection)
    with asked:
        answer = api.post(PATH, body(), **{"Idempotency-Key": "order-7"})
    assert answer.status_code == 202, answer.content
    told = [query["sql"] for query in asked if "ROLE" not in query["sql"]]  # the tests' own
    # The transaction's begin and end; tenant, key, idempotency key, standing; messages, facts,
    # answer. Each waits for the network and for two processes to get a processor.
    assert len(told) == 9, told
    assert not [sql for sql in told if "SAVEPOINT" in sql]


def test_another_tenants_suppressions_do_not_count(api: make.ApiClient, cast: Cast) -> None:
    make.suppression(cast.globex, "ada@bigmail.test")
    assert api.post(PATH, body()).json()["queued"] == 1


def test_a_refused_request_leaves_the_callers_transaction_usable(cast: Cast) -> None:
    actor = system_actor(cast.acme.pk, "tests")
    source = ContentSource(kind="text", body="Hello", subject="Hello")
    request = SendRequest("a@elsewhere.example", (Recipient("ada@bigmail.test"),), source)
    with scope(cast.acme.pk):
        with pytest.raises(SenderNotVerified):
            accept_messages(actor=actor, request=request)
        assert not Message.objects.exists()
