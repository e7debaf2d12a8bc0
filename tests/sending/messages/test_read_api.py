"""GET messages and events: filters, pages, the timeline, another tenant."""

from __future__ import annotations

import datetime as dt

import pytest
from django.utils import timezone

from deliverability.domains.models import Domain
from esp.lib.ids import new_id, to_public
from sending.events.models import Attempt
from sending.events.services import Fact, record_facts
from sending.messages.models import Message, QueueEntry
from tests import make
from tests.cast import Cast
from tests.sending.messages.requests import PATH, body


@pytest.fixture
def message(cast: Cast, acme_domain: Domain) -> Message:
    """A message that was deferred once."""
    made = make.message(
        make.batch(cast.acme),
        make.message_content(acme_domain, compiled={"subject": "Hello"}),
        "ada@bigmail.test",
        status="deferred",
        attempts=1,
        last_reply="421 busy",
        tags=["receipt"],
    )
    now = timezone.now()
    QueueEntry.objects.create(
        message_id=made.pk,
        tenant_id=cast.acme.pk,
        batch_id=made.batch_id,
        domain="bigmail.test",
        due_at=now + dt.timedelta(minutes=5),
        expires_at=made.expires_at,
        attempts=1,
        reason="bigmail.test asked to try again later: 421 busy",
    )
    fact = {
        "tenant_id": cast.acme.pk,
        "message_id": made.pk,
        "batch_id": made.batch_id,
        "recipient": made.recipient,
    }
    record_facts(
        [
            Fact(**fact, kind="accepted", at=now),
            Fact(**fact, kind="deferred", at=now, detail={"attempt": 1, "reply": "421 busy"}),
        ]
    )
    Attempt.unscoped.create(
        id=new_id(),
        tenant=cast.acme,
        message_id=made.pk,
        at=now,
        number=1,
        outcome="deferred",
        phase="greeting",
        mx_host="mx.bigmail.test",
        smtp_code=421,
        reply="421 busy",
        timings={"connect": 0.01},
    )
    return made


def test_a_message_tells_its_story(api: make.ApiClient, message: Message) -> None:
    shown = api.get(f"{PATH}/{message.public_id}").json()
    assert (shown["recipient"], shown["status"], shown["subject"]) == (
        "ada@bigmail.test",
        "deferred",
        "Hello",
    )
    assert shown["explanation"].startswith("bigmail.test asked to try again later: 421 busy.")
    assert "next attempt is at" in shown["explanation"]
    assert [line["kind"] for line in shown["timeline"]] == ["accepted", "deferred"]
    attempt = shown["timeline"][1]["attempt"]
    assert (attempt["mx_host"], attempt["smtp_code"], attempt["timings"]) == (
        "mx.bigmail.test",
        421,
        {"connect": 0.01},
    )


def test_a_bounce_is_explained(api: make.ApiClient, message: Message) -> None:
    QueueEntry.objects.all().delete()
    Message.unscoped.update(status="bounced", bounce_class="hard/invalid-recipient")
    shown = api.get(f"{PATH}/{message.public_id}").json()
    assert len(shown["explanation"]) > 30


@pytest.mark.parametrize("public_id", ["msg_x", "dom_01k9y7mv5wehtr1m6h0q4x7k5p", "%00"])
def test_a_forged_id_is_not_found(api: make.ApiClient, public_id: str) -> None:
    answer = api.get(f"{PATH}/{public_id}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


def test_it_refuses_another_tenant(globex_api: make.ApiClient, message: Message) -> None:
    assert globex_api.get(f"{PATH}/{message.public_id}").status_code == 404
    assert globex_api.get(PATH).json()["data"] == []
    assert globex_api.get("/api/v1/events").json()["data"] == []
    batch = to_public("bat", message.batch_id)
    assert globex_api.get("/api/v1/events", {"batch": batch}).json()["data"] == []
    assert globex_api.get(PATH, {"batch": batch}).json()["data"] == []


@pytest.mark.parametrize("path", [PATH, f"{PATH}/msg_x", "/api/v1/events"])
def test_it_refuses_lack_of_permission(cast: Cast, path: str) -> None:
    sender = make.api(cast.acme, scopes=["messages:send"])
    assert sender.get(path).status_code == 403


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"status": "deferred"}, 1),
        ({"status": "bounced"}, 0),
        ({"recipient": "ADA@bigmail.test"}, 1),
        ({"recipient": "bob@bigmail.test"}, 0),
        ({"tag": "receipt"}, 1),
        ({"tag": "other"}, 0),
        ({"since": "2020-01-01T00:00:00Z"}, 1),
        ({"until": "2020-01-01T00:00:00Z"}, 0),
    ],
)
def test_messages_are_filtered(
    api: make.ApiClient, message: Message, query: dict[str, str], found: int
) -> None:
    assert len(api.get(PATH, query).json()["data"]) == found


@pytest.mark.parametrize(
    ("query", "found"),
    [({}, 2), ({"kind": "deferred"}, 1), ({"kind": "opened"}, 0), ({"limit": "1"}, 1)],
)
def test_events_are_filtered(
    api: make.ApiClient, message: Message, query: dict[str, str], found: int
) -> None:
    query = query | {"message": message.public_id}
    assert len(api.get("/api/v1/events", query).json()["data"]) == found


def test_pages_follow_each_other_without_a_gap(api: make.ApiClient, acme_domain: Domain) -> None:
    api.post(PATH, body(to=[{"email": f"r{number}@bigmail.test"} for number in range(5)]))
    seen, after = [], None
    while True:
        page = api.get(PATH, {"limit": 2} | ({"cursor": after} if after else {})).json()
        seen += [row["recipient"] for row in page["data"]]
        after = page["next_cursor"]
        if after is None:
            break
    assert seen == [f"r{number}@bigmail.test" for number in reversed(range(5))]


def test_an_address_that_does_not_exist_answers_like_the_api(api: make.ApiClient) -> None:
    answer = api.get("/api/v1/nothing")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
    assert answer.headers["Content-Type"] == "application/problem+json"
