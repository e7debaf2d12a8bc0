"""From the queue by routes to smarthosts and a provider's API, and back into the database.

Real servers on loopback all the way: what leaves twice, or by two routes, is seen there.
"""

from __future__ import annotations

import datetime as dt
import email
import json
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from email.message import Message as EmailMessage
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from sending.dispatch.worker import DeliveryWorker
from sending.events.models import Attempt, Event
from sending.feedback.provider_reports import work_reports
from sending.lanes.models import LimitOverride
from sending.messages.models import Batch, Message, QueueEntry
from sending.routes.models import (
    DefaultRoute,
    Route,
    RouteRule,
    RouteSet,
    RouteSetMember,
    RouteStat,
    RouteWebhook,
)
from sending.routes.selectors import forget_routes
from tests.engine_sink.sink import self_signed_context
from tests.sending.dispatch.conftest import World
from tests.sending.dispatch.test_delivery import queue, run_until_empty
from tests.sending.routes.servers import Answer, Provider, Smarthost

READERS = [f"reader{number}@plainmail.test" for number in range(8)]


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    forget_routes()
    yield
    forget_routes()


@pytest.fixture
def smarthost(tmp_path: Path) -> Iterator[Callable[[], Smarthost]]:
    tls: ssl.SSLContext = self_signed_context(tmp_path)
    started: list[Smarthost] = []

    def start() -> Smarthost:
        started.append(Smarthost(tls, password="hunter22"))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def always_room(world: World, settings: Any) -> None:
    """A route without room hands its turn on: one message at a time, and a rate nobody reaches."""
    settings.DELIVERY_CONCURRENCY = 1
    for name in ("One", "Two", "Heavy", "Light", "Poor", "Good"):
        LimitOverride.objects.create(scope="site", key=f"route:{name}", per_second=10_000)


@pytest.fixture
def postmark() -> Iterator[Provider]:
    """An HTTP server that speaks Postmark's API."""
    answer = {
        "To": READERS[0],
        "SubmittedAt": "2026-11-22T05:00:00Z",
        "MessageID": "b7bc2f4a-e38e-4336-af7d",
        "ErrorCode": 0,
        "Message": "OK",
    }
    server = Provider(Answer(data=answer))
    yield server
    server.stop()


def relay(port: int, name: str) -> Route:
    return Route.objects.create(
        name=name,
        kind=Route.Kind.SMARTHOST,
        options={
            "host": "127.0.0.1", "port": port, "tls": "starttls", "verify": False,
            "auth": "plain", "username": "acme", "own_network": True, "bind_source": False,
        },
        secrets=json.dumps({"secret": "hunter22"}),
    )  # fmt: skip


def by_postmark(server: Provider) -> Route:
    return Route.objects.create(
        name="Postmark",
        kind=Route.Kind.HTTP,
        options={"provider": "postmark", "base_url": server.url, "own_network": True},
        secrets=json.dumps({"server_token": "very-secret-token"}),
    )


def use(*routes: Route, strategy: str = "failover", weights: tuple[int, ...] = ()) -> RouteSet:
    """Let campaigns leave by these routes."""
    found = RouteSet.objects.create(name=f"Set {strategy}", strategy=strategy)
    for place, route in enumerate(routes):
        weight = weights[place] if weights else 1
        RouteSetMember.objects.create(route_set=found, route=route, position=place, weight=weight)
    DefaultRoute.objects.create(stream="broadcast", route_set=found)
    return found


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def parsed(server: Smarthost) -> list[EmailMessage]:
    found = (message.content for message in server.inbox.messages)
    return [email.message_from_bytes(data) for data in found if isinstance(data, bytes)]


def attempts(batch: Batch) -> list[Attempt]:
    ids = Message.unscoped.filter(batch=batch).values("pk")
    return list(Attempt.unscoped.filter(message_id__in=ids).order_by("at", "number"))


def statuses(batch: Batch) -> Counter[str]:
    return Counter(Message.unscoped.filter(batch=batch).values_list("status", flat=True))


def try_until(
    batch: Batch, worker: DeliveryWorker, *, tries: int = 0, status: str = "", hold: str = ""
) -> None:
    """Let what waits be due at once, until it was tried so often, ended so, or is held so."""
    end = time.monotonic() + 20.0
    while True:
        assert time.monotonic() < end, list(QueueEntry.objects.values_list("reason", "attempts"))
        QueueEntry.objects.filter(batch_id=batch.pk).update(due_at=timezone.now())
        forget_routes()
        worker.run_slice(seconds=1.0)
        held = QueueEntry.objects.filter(batch_id=batch.pk, hold=hold).exists()
        if (
            (tries and len(attempts(batch)) >= tries)
            or (status and set(statuses(batch)) == {status})
            or (hold and held)
        ):
            return


def test_a_campaign_leaves_by_a_smarthost_and_says_so(
    world: World, worker: DeliveryWorker, smarthost: Callable[[], Smarthost]
) -> None:
    server = smarthost()
    use(relay(server.port, "Relay"))
    batch = queue(world, READERS)
    run_until_empty(worker, batch)
    assert statuses(batch) == {"delivered": 8}
    assert sorted(found.rcpt_tos[0] for found in server.inbox.messages) == READERS
    assert {found.route for found in attempts(batch)} == {"Relay"}
    assert {found.tls_version[:4] for found in attempts(batch)} == {"TLSv"}
    assert {found.provider_id for found in attempts(batch)} == {None}
    assert list(world.client.ledger(kinds=["delivered"])) == [], "nothing went directly"
    assert "DKIM-Signature" in parsed(server)[0]
    (stat,) = RouteStat.objects.values_list("delivered", "deferred", "bounced")
    assert stat == (8, 0, 0)


def test_without_a_set_a_tenants_mail_goes_directly(
    world: World, worker: DeliveryWorker, smarthost: Callable[[], Smarthost]
) -> None:
    server = smarthost()
    found = RouteSet.objects.create(name="Globex’ own")
    RouteSetMember.objects.create(route_set=found, route=relay(server.port, "Relay"))
    RouteRule.unscoped.create(tenant=world.cast.globex, stream="any", route_set=found)
    batch = queue(world, READERS[:2])
    run_until_empty(worker, batch)
    assert {found.route for found in attempts(batch)} == {""}
    assert server.inbox.messages == []


def test_a_message_by_a_providers_api_and_its_bounce_by_webhook(
    world: World, worker: DeliveryWorker, postmark: Provider
) -> None:
    route = by_postmark(postmark)
    RouteWebhook.objects.create(route=route, token="t" * 43)
    use(route)
    batch = queue(world, READERS[:1])
    run_until_empty(worker, batch)
    (call,) = [call for call in postmark.calls if call.path == "/email"]
    assert call.headers["x-postmark-server-token"] == "very-secret-token"
    message = Message.unscoped.get(batch=batch)
    assert call.json["To"] == READERS[0]
    assert call.json["Metadata"] == {"message_id": message.public_id}
    (attempt,) = attempts(batch)
    assert (attempt.route, attempt.outcome) == ("Postmark", "delivered")
    assert attempt.provider_id == "b7bc2f4a-e38e-4336-af7d"
    assert "very-secret-token" not in attempt.reply
    report = {
        "RecordType": "Bounce", "ID": 42, "Type": "HardBounce", "MessageID": attempt.provider_id,
        "Email": READERS[0], "BouncedAt": "2026-11-22T05:00:09Z",
        "Details": "smtp;550 5.1.1 No such user", "Metadata": call.json["Metadata"],
    }  # fmt: skip
    path = f"/hooks/{route.public_id}/{'t' * 43}"
    assert Client().post(path, report, content_type="application/json").status_code == 200
    work_reports()
    message.refresh_from_db()
    assert message.bounced_late_at is not None
    kinds = Event.unscoped.filter(message_id=message.pk).order_by("id")
    assert list(kinds.values_list("kind", flat=True)) == ["delivered", "bounced_late"]


def test_a_dead_first_route_is_passed_over_and_seen(
    world: World, worker: DeliveryWorker, smarthost: Callable[[], Smarthost]
) -> None:
    first, second = relay(closed_port(), "First"), smarthost()
    use(first, relay(second.port, "Second"))
    batch = queue(world, READERS)
    run_until_empty(worker, batch)
    assert statuses(batch) == {"delivered": 8}
    assert sorted(found.rcpt_tos[0] for found in second.inbox.messages) == READERS
    # One that finds the second route without room waits for it: that is no attempt.
    assert {(found.route, found.outcome) for found in attempts(batch)} == {("Second", "delivered")}
    first.refresh_from_db()
    assert first.failures >= 1
    assert "refused" in first.last_error.lower()


def test_a_provider_that_is_down_is_passed_over(
    world: World,
    worker: DeliveryWorker,
    postmark: Provider,
    smarthost: Callable[[], Smarthost],
) -> None:
    postmark.answer = Answer(503, {"Message": "Down for maintenance"})
    server = smarthost()
    use(by_postmark(postmark), relay(server.port, "Spare"))
    batch = queue(world, READERS[:3])
    run_until_empty(worker, batch)
    assert statuses(batch) == {"delivered": 3}
    assert {found.route for found in attempts(batch)} == {"Spare"}
    assert len(server.inbox.messages) == 3


def test_a_refusal_of_the_message_bounces_and_tries_no_other_route(
    world: World,
    worker: DeliveryWorker,
    postmark: Provider,
    smarthost: Callable[[], Smarthost],
) -> None:
    postmark.answer = Answer(422, {"ErrorCode": 300, "Message": "Attachments are too many"})
    server = smarthost()
    use(by_postmark(postmark), relay(server.port, "Spare"))
    batch = queue(world, READERS[:1])
    run_until_empty(worker, batch)
    assert statuses(batch) == {"bounced": 1}
    assert server.inbox.messages == []


def test_a_lost_reply_after_data_is_never_tried_by_another_route(
    world: World, worker: DeliveryWorker, smarthost: Callable[[], Smarthost]
) -> None:
    first, second = smarthost(), smarthost()
    first.inbox.cuts = True
    one = relay(first.port, "First")
    use(one, relay(second.port, "Second"))
    batch = queue(world, READERS[:1])
    try_until(batch, worker, tries=2)
    for attempt in attempts(batch):
        assert (attempt.route, attempt.outcome, attempt.is_ambiguous) == ("First", "deferred", True)
    # Also while it rests: it may have the message.
    Route.objects.filter(pk=one.pk).update(
        failures=3, rests_until=timezone.now() + dt.timedelta(minutes=5)
    )
    tried = len(attempts(batch))
    try_until(batch, worker, hold="route")
    assert len(attempts(batch)) == tried, "held, not tried"
    assert second.inbox.messages == []
    first.inbox.cuts = False
    Route.objects.filter(pk=one.pk).update(failures=0, rests_until=None)
    try_until(batch, worker, status="delivered")
    assert (len(first.inbox.messages), len(second.inbox.messages)) == (tried + 1, 0)
    assert len({found["Message-ID"] for found in parsed(first)}) == 1, (
        "the receiver can tell the copies"
    )


def test_a_call_that_breaks_off_is_never_tried_by_another_route(
    world: World,
    worker: DeliveryWorker,
    postmark: Provider,
    smarthost: Callable[[], Smarthost],
) -> None:
    server = smarthost()
    good, postmark.answer = postmark.answer, Answer(cut=True)
    use(by_postmark(postmark), relay(server.port, "Spare"))
    batch = queue(world, READERS[:1])
    try_until(batch, worker, tries=2)
    assert {(found.route, found.is_ambiguous) for found in attempts(batch)} == {("Postmark", True)}
    postmark.answer = good
    Route.objects.filter(name="Postmark").update(failures=0, rests_until=None)
    try_until(batch, worker, status="delivered")
    assert {found.route for found in attempts(batch)} == {"Postmark"}
    assert server.inbox.messages == []
    sent = [call.json["Headers"] for call in postmark.calls if call.path == "/email"]
    assert len(sent) == len(attempts(batch)) >= 3
    ids = {entry["Value"] for headers in sent for entry in headers if entry["Name"] == "Message-ID"}
    assert len(ids) == 1


def test_a_lost_reply_may_go_another_way_once_its_route_is_switched_off(
    world: World, worker: DeliveryWorker, smarthost: Callable[[], Smarthost]
) -> None:
    first, second = smarthost(), smarthost()
    first.inbox.cuts = True
    one = relay(first.port, "First")
    use(one, relay(second.port, "Second"))
    batch = queue(world, READERS[:1])
    try_until(batch, worker, tries=1)
    Route.objects.filter(pk=one.pk).update(status="off")
    try_until(batch, worker, status="delivered")
    assert len(second.inbox.messages) == 1


def test_all_routes_down_holds_the_mail_and_never_sends_it_directly(
    world: World, worker: DeliveryWorker
) -> None:
    route = relay(closed_port(), "Only")
    Route.objects.filter(pk=route.pk).update(
        failures=3, rests_until=timezone.now() + dt.timedelta(minutes=5), last_error="refused"
    )
    use(route)
    batch = queue(world, READERS[:2])
    try_until(batch, worker, hold="route")
    assert attempts(batch) == []
    entries = QueueEntry.objects.filter(batch_id=batch.pk)
    assert set(entries.values_list("hold", "attempts")) == {("route", 0)}
    assert "Only rests" in entries[0].reason
    assert list(world.client.ledger(kinds=["delivered"])) == []


def shares(world: World, worker: DeliveryWorker, count: int) -> Counter[str]:
    batch = queue(world, [f"reader{number}@plainmail.test" for number in range(count)])
    run_until_empty(worker, batch, seconds=30.0)
    assert statuses(batch) == {"delivered": count}
    return Counter(found.route for found in attempts(batch))


@pytest.mark.usefixtures("always_room")
def test_in_turn_each_route_gets_the_same(
    world: World, worker: DeliveryWorker, smarthost: Callable[[], Smarthost]
) -> None:
    servers = smarthost(), smarthost()
    use(relay(servers[0].port, "One"), relay(servers[1].port, "Two"), strategy="round_robin")
    found = shares(world, worker, 20)
    assert abs(found["One"] - found["Two"]) <= 6, "a turn is lost with each message that was held"
    assert [len(server.inbox.messages) for server in servers] == [found["One"], found["Two"]]


@pytest.mark.usefixtures("always_room")
def test_by_weight_the_heavier_route_gets_more(
    world: World, worker: DeliveryWorker, smarthost: Callable[[], Smarthost]
) -> None:
    servers = smarthost(), smarthost()
    use(
        relay(servers[0].port, "Heavy"), relay(servers[1].port, "Light"),
        strategy="weighted", weights=(9, 1),
    )  # fmt: skip
    found = shares(world, worker, 60)
    # 54 expected, and a route without room hands its turn on: far from half is what is claimed.
    assert found["Heavy"] > 40
    assert len(servers[0].inbox.messages) == found["Heavy"]


@pytest.mark.usefixtures("always_room")
def test_by_performance_the_route_with_the_better_numbers_gets_more(
    world: World, worker: DeliveryWorker, smarthost: Callable[[], Smarthost]
) -> None:
    servers = smarthost(), smarthost()
    poor, good = relay(servers[0].port, "Poor"), relay(servers[1].port, "Good")
    minute = timezone.now().replace(second=0, microsecond=0) - dt.timedelta(minutes=2)
    RouteStat.objects.create(route=poor, minute=minute, delivered=20, deferred=80, seconds=200.0)
    RouteStat.objects.create(route=good, minute=minute, delivered=100, seconds=10.0)
    use(poor, good, strategy="performance")
    found = shares(world, worker, 60)
    assert found["Good"] > 40
