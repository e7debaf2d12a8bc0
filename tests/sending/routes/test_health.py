"""Counting results by route, resting those that fail, and bringing them back."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from deliverability.alerts.models import Alert
from sending.engine.ports import Outcome
from sending.routes.models import Route, RouteStat
from sending.routes.services import check_routes, note_results, result_of
from sending.routes.types import RouteResult
from tests.sending.routes.servers import Answer, Provider, Smarthost
from tests.sending.routes.test_smarthosts import route as smtp_route

NOW = dt.datetime(2026, 11, 22, 5, 0, 30, tzinfo=dt.UTC)

pytestmark = pytest.mark.django_db


def result(kind: Any = "delivered", *, at: int = 0, name: str = "Relay", **fields: Any) -> Any:
    return RouteResult(name, kind, NOW + dt.timedelta(seconds=at), 0.5, **fields)


def failure(at: int = 0, error: str = "no answer") -> RouteResult:
    return result("deferred", at=at, is_failure=True, error=error)


@pytest.fixture
def relay() -> Route:
    found = smtp_route(587)
    found.save()
    return found


def seen(route: Route) -> tuple[int, float | None]:
    """Return failures in a row, and the rest in seconds from NOW."""
    route.refresh_from_db()
    until = route.rests_until
    return route.failures, (until - NOW).total_seconds() if until is not None else None


def test_results_are_counted_by_minute(relay: Route) -> None:
    direct = Route.objects.create(name="Direct", kind="direct")
    rows = [result(), result("bounced"), result("deferred", at=40), result(name="Gone"),
            result(name="")]  # fmt: skip
    with CaptureQueriesContext(connection) as queries:
        note_results(rows * 50)
    assert len(queries) <= 3, "the number of rows must not matter"
    note_results([result()])
    minutes = list(RouteStat.objects.filter(route=relay).order_by("minute"))
    assert [(row.delivered, row.deferred, row.bounced) for row in minutes] == [
        (51, 0, 50), (0, 50, 0),
    ]  # fmt: skip
    assert minutes[0].seconds == pytest.approx(50.5)
    assert RouteStat.objects.get(route=direct).delivered == 50


def test_three_failures_in_a_row_are_a_rest(relay: Route) -> None:
    note_results([failure(), failure(1)], now=NOW)
    assert seen(relay) == (2, None)
    note_results([failure(2, "refused")], now=NOW)
    assert seen(relay) == (3, 30.0)
    assert relay.last_error == "refused"
    alert = Alert.objects.get(code="route-failing", subject="Relay", closed_at=None)
    assert "refused" in alert.detail


def test_a_success_in_between_ends_the_row(relay: Route) -> None:
    note_results([failure(), failure(1), result(at=2), failure(3)], now=NOW)
    assert seen(relay) == (1, None)
    note_results([result(at=4)], now=NOW)
    assert seen(relay) == (0, None)


def test_a_burst_counts_once_and_rests_grow_to_fifteen_minutes(relay: Route) -> None:
    now = NOW
    pauses = []
    for _ in range(8):
        note_results([failure(at) for at in range(100)], now=now)
        note_results([failure()], now=now)  # was under way while the rest began
        relay.refresh_from_db()
        assert relay.rests_until is not None
        pauses.append((relay.rests_until - now).total_seconds())
        now = relay.rests_until
    assert pauses == [30, 60, 120, 240, 480, 900, 900, 900]


def outcome(**fields: Any) -> Outcome:
    base = {"kind": "deferred", "phase": "connect", "classification": "soft/network-error",
            "text": "no", "at": NOW, "route": "Relay"}  # fmt: skip
    return Outcome(**(base | fields))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"phase": "auth", "classification": "block/auth-failure", "smtp_code": 535}, True),
        ({"phase": "greeting", "smtp_code": 554}, True),
        ({"phase": "body", "is_ambiguous": True}, True),
        ({"phase": "rcpt", "smtp_code": None}, True),
        ({"phase": "rcpt", "smtp_code": 450}, False),
        ({"phase": "greeting", "classification": "soft/throttled"}, False),
        ({"phase": "rcpt", "kind": "bounced", "smtp_code": 550}, False),
        ({"phase": "body", "kind": "delivered"}, False),
        ({"route": ""}, False),
    ],
)
def test_only_the_routes_own_faults_are_failures(fields: Any, expected: bool) -> None:
    found = result_of(outcome(**fields))
    assert found is not None
    assert found.is_failure is expected


def test_what_was_not_tried_is_no_result() -> None:
    assert result_of(outcome(phase="throttle", hold="route")) is None


def test_a_check_brings_a_route_back(
    smarthost: Callable[..., Smarthost], server_tls: ssl.SSLContext
) -> None:
    server = smarthost(server_tls, password="hunter22")
    relay = smtp_route(server.port)
    relay.save()
    now = timezone.now()
    note_results([failure(at) for at in range(3)], now=now)
    assert check_routes(now=now) == 0, "it rests"
    assert check_routes(now=now + dt.timedelta(seconds=20)) == 1
    relay.refresh_from_db()
    assert (relay.failures, relay.rests_until, relay.last_error) == (0, None, "")
    assert Alert.objects.get(code="route-failing").closed_at is not None
    assert server.inbox.messages == []


def test_a_check_that_fails_makes_the_rest_longer(
    smarthost: Callable[..., Smarthost], server_tls: ssl.SSLContext
) -> None:
    server = smarthost(server_tls, password="other")
    relay = smtp_route(server.port)
    relay.save()
    now = timezone.now()
    note_results([failure(at) for at in range(3)], now=now)
    before = Route.objects.get().rests_until
    check_routes(now=now + dt.timedelta(seconds=20))
    relay.refresh_from_db()
    assert relay.failures == 4
    assert before is not None
    assert relay.rests_until is not None
    assert relay.rests_until - before > dt.timedelta(seconds=20)
    assert "login was refused" in relay.last_error.lower() or "535" in relay.last_error


def test_an_idle_route_is_checked_every_five_minutes(relay: Route) -> None:
    Route.objects.filter(pk=relay.pk).update(options=relay.options | {"port": 1})
    now = timezone.now()
    assert check_routes(now=now) == 1
    assert check_routes(now=now + dt.timedelta(minutes=4)) == 0
    assert check_routes(now=now + dt.timedelta(minutes=6)) == 1
    relay.refresh_from_db()
    assert relay.failures == 2
    used = now + dt.timedelta(minutes=12)
    RouteStat.objects.create(route=relay, minute=used, delivered=1)
    assert check_routes(now=used) == 0, "traffic tells"


def test_a_provider_that_can_only_be_reached_is_not_called_well(
    provider: Callable[[Answer], Provider],
) -> None:
    """A wrong key would else be forgotten with every check."""
    server = provider(Answer())
    route = Route.objects.create(
        name="Relay",
        kind="http",
        options={"provider": "sparkpost", "base_url": server.url, "own_network": True},
        secrets='{"api_key": "k"}',
    )
    now = timezone.now()
    note_results([failure(at, "HTTP 401") for at in range(3)], now=now)
    check_routes(now=now + dt.timedelta(seconds=20))
    route.refresh_from_db()
    assert route.failures == 3
