"""Smarthosts over SMTP, with real servers: every log-in, failover, and no message by two routes."""

from __future__ import annotations

import datetime as dt
import json
import random
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from deliverability.alerts.models import Alert
from esp.lib.clock import SystemClock
from sending.engine.mx import MxSettings
from sending.engine.pool import Deliverer, make_deliverer
from sending.engine.ports import Outcome, Way
from sending.engine.smtp.session import SessionSettings, Timeouts
from sending.engine.throttle import LaneLimits, LocalThrottle
from sending.routes.building import relay_of
from sending.routes.http.carrier import HttpCarrier
from sending.routes.models import Route, RouteSet
from sending.routes.plans import Member, Plan
from sending.routes.probe import probe
from sending.routes.providers import PROVIDERS
from sending.routes.services import check_routes, renew_token
from sending.routes.tokens import NoToken
from sending.routes.witness import Witness
from tests.sending.routes.conftest import LETTER, SOURCE, order
from tests.sending.routes.servers import Answer, Provider, Smarthost

NOW = dt.datetime(2026, 11, 22, 5, 0, tzinfo=dt.UTC)
QUICK = Timeouts(
    connect=1.0, greeting=1.0, ehlo=1.0, tls=1.0, auth=1.0, mail=1.0, rcpt=1.0, data=1.0, body=1.0,
    reset=0.3, quit=0.2,
)  # fmt: skip


def route(port: int, name: str = "Relay", *, secrets: Any = None, **options: Any) -> Route:
    """Return a smarthost that is not in the database."""
    stored = {
        "host": "127.0.0.1", "port": port, "tls": "starttls", "verify": False, "auth": "plain",
        "username": "acme", "own_network": True, "bind_source": False,
    }  # fmt: skip
    return Route(
        name=name,
        kind=Route.Kind.SMARTHOST,
        options=stored | options,
        secrets=json.dumps({"secret": "hunter22"} if secrets is None else secrets),
    )


@pytest.fixture
def witness() -> Witness:
    return Witness(LocalThrottle(LaneLimits(), clock=SystemClock()))


@pytest.fixture
async def engine(witness: Witness) -> AsyncIterator[Deliverer]:
    made = make_deliverer(
        mx=MxSettings(nameservers=("127.0.0.1",), port=9, timeout_seconds=0.2, allow_private=True),
        session=SessionSettings(timeouts=QUICK),
        clock=SystemClock(),
        rng=random.Random(1),
        throttle=witness,
    )
    yield made
    await made.close()


def plan(*members: Member, strategy: str = RouteSet.Strategy.FAILOVER) -> Plan:
    return Plan(strategy, members)


async def send(engine: Deliverer, found: Plan, *, only: str | None = None) -> Outcome:
    ways = found.ways((Way(SOURCE),), only=only, now=dt.datetime.now(dt.UTC))
    return await engine.deliver(order(*ways))


def smtp(found: Route) -> Member:
    return Member(found.name, relay=relay_of(found), ehlo_name="mail.mailwright.test")


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.parametrize("auth", ["plain", "login", "api_key"])
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_a_smarthost_takes_mail_after_a_login(
    auth: str,
    tls: str,
    smarthost: Callable[..., Smarthost],
    server_tls: ssl.SSLContext,
    engine: Deliverer,
) -> None:
    server = smarthost(server_tls, implicit=tls == "implicit", password="hunter22")
    user = "apikey" if auth == "api_key" else "acme"
    outcome = await send(engine, plan(smtp(route(server.port, auth=auth, tls=tls, username=user))))
    assert outcome.kind == "delivered", outcome.text
    assert (outcome.route, outcome.source_address) == ("Relay", "127.0.0.1")
    assert outcome.tls_version in ("TLSv1.2", "TLSv1.3")
    assert server.inbox.logins == [(user, "hunter22")]
    (message,) = server.inbox.messages
    assert message.rcpt_tos == ["bob@bigmail.test"]
    assert message.content == LETTER


async def test_a_smarthost_takes_a_bearer_token(
    smarthost: Callable[..., Smarthost], server_tls: ssl.SSLContext, engine: Deliverer
) -> None:
    server = smarthost(server_tls, password="-")
    found = route(server.port, auth="xoauth2", secrets={"secret": "fresh-token"})
    assert (await send(engine, plan(smtp(found)))).kind == "delivered"
    assert server.inbox.logins == [("acme", "fresh-token")]


async def test_a_wrong_password_moves_on_to_the_next_route(
    smarthost: Callable[..., Smarthost], server_tls: ssl.SSLContext, engine: Deliverer
) -> None:
    first = smarthost(server_tls, password="other")
    second = smarthost(server_tls, password="hunter22")
    found = plan(smtp(route(first.port, "First")), smtp(route(second.port, "Second")))
    outcome = await send(engine, found)
    assert (outcome.kind, outcome.route) == ("delivered", "Second")
    assert (len(first.inbox.messages), len(second.inbox.messages)) == (0, 1)


async def test_a_dead_route_moves_on_and_nothing_arrives_twice(
    smarthost: Callable[..., Smarthost],
    server_tls: ssl.SSLContext,
    engine: Deliverer,
    witness: Witness,
    provider: Callable[[Answer], Provider],
) -> None:
    api = provider(Answer(503, {"message": "down"}))
    settings = {"api_key": "k", "sender_domain": "acme.example"}
    carrier = HttpCarrier(PROVIDERS["mailgun"], settings, base_url=api.url, threads=1)
    relay = smarthost(server_tls, password="hunter22")
    found = plan(
        smtp(route(closed_port(), "Dead")), Member("Api", carrier=carrier),
        smtp(route(relay.port, "Alive")),
    )  # fmt: skip
    for _ in range(5):
        outcome = await send(engine, found)
        assert (outcome.kind, outcome.route) == ("delivered", "Alive")
    seen = Counter((row.route, row.is_failure) for row in witness.take())
    assert seen == {("Dead", True): 5, ("Api", True): 5, ("Alive", False): 5}
    assert witness.take() == []
    assert len(relay.inbox.messages) == 5
    assert len(api.calls) == 5, "each message was refused there before it went on"
    carrier.close()


async def test_a_refused_message_does_not_try_another_route(
    smarthost: Callable[..., Smarthost], server_tls: ssl.SSLContext, engine: Deliverer
) -> None:
    first = smarthost(server_tls, password="hunter22", refuse_mail="550 5.7.1 no")
    second = smarthost(server_tls, password="hunter22")
    found = plan(smtp(route(first.port, "First")), smtp(route(second.port, "Second")))
    outcome = await send(engine, found)
    assert (outcome.kind, outcome.route) == ("bounced", "First")
    assert second.inbox.messages == []


async def test_an_ambiguous_attempt_is_repeated_by_its_own_route_alone(
    smarthost: Callable[..., Smarthost],
    server_tls: ssl.SSLContext,
    engine: Deliverer,
    provider: Callable[[Answer], Provider],
) -> None:
    api = provider(Answer(504, ""))
    settings = {"api_key": "k", "sender_domain": "acme.example"}
    carrier = HttpCarrier(PROVIDERS["mailgun"], settings, base_url=api.url, threads=1)
    relay = smarthost(server_tls, password="hunter22")
    found = plan(Member("Api", carrier=carrier), smtp(route(relay.port, "Relay")))
    outcome = await send(engine, found)
    assert outcome.is_ambiguous
    assert outcome.route == "Api"
    for _ in range(3):
        again = await send(engine, found, only=outcome.route)
        assert again.route == "Api"
    assert relay.inbox.messages == []
    assert len(api.calls) == 4
    carrier.close()


async def test_where_all_routes_rest_the_message_waits_untried(
    smarthost: Callable[..., Smarthost], server_tls: ssl.SSLContext, engine: Deliverer
) -> None:
    server = smarthost(server_tls, password="hunter22")
    until = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=90)
    relay = relay_of(route(server.port))
    resting = Member("Relay", relay=relay, rests_until=until, last_error="no answer")
    outcome = await send(engine, plan(resting))
    assert (outcome.kind, outcome.phase, outcome.hold) == ("deferred", "throttle", "route")
    assert outcome.retry_after_seconds is not None
    assert 80 < outcome.retry_after_seconds <= 90
    assert "no answer" in outcome.text
    assert server.inbox.messages == []


# --- tests of routes, in words ---


def test_a_test_says_each_step(
    smarthost: Callable[..., Smarthost], server_tls: ssl.SSLContext
) -> None:
    server = smarthost(server_tls, password="hunter22")
    found = probe(route(server.port))
    assert found.is_ok, found.error
    assert [step.is_ok for step in found.steps] == [True] * len(found.steps)
    titles = " / ".join(step.title for step in found.steps)
    assert "Say EHLO / Make the connection secure / Log in as acme / Say goodbye" in titles
    assert server.inbox.messages == []


def test_a_test_says_what_failed(
    smarthost: Callable[..., Smarthost], server_tls: ssl.SSLContext
) -> None:
    server = smarthost(server_tls, password="other")
    found = probe(route(server.port))
    failed = [step for step in found.steps if step.is_ok is False]
    assert [step.title for step in failed] == ["Log in as acme"]
    assert found.steps[-1].is_ok is None
    assert "hunter22" not in repr(found)
    untrusted = probe(route(server.port, verify=True))
    assert "TLS failed" in untrusted.error
    dead = probe(route(closed_port()))
    assert [step.title for step in dead.steps if step.is_ok is False] == [
        next(step.title for step in dead.steps if "Connect to port" in step.title)
    ]


# --- bearer tokens that are renewed ---


@pytest.fixture
def renewing(db: None) -> Callable[[str, int], Route]:
    def make(token_url: str, port: int) -> Route:
        found = route(
            port,
            secrets={"refresh_token": "refresh-1", "client_secret": "shh-secret"},
            auth="xoauth2_refresh",
            token_url=f"{token_url}token",
            client_id="mailwright",
        )
        found.save()
        return found

    return make


def test_a_token_is_fetched_once_and_kept_until_it_ends(
    renewing: Callable[[str, int], Route], provider: Callable[[Answer], Provider]
) -> None:
    api = provider(Answer(200, {"access_token": "fresh-token", "expires_in": 3600}))
    found = renewing(api.url, 587)
    renew_token(found, now=NOW)
    renew_token(found, now=NOW + dt.timedelta(minutes=54))
    assert len(api.calls) == 1
    assert b"grant_type=refresh_token&refresh_token=refresh-1" in api.calls[0].body
    renew_token(found, now=NOW + dt.timedelta(minutes=56))
    assert len(api.calls) == 2
    stored = Route.objects.get()
    assert relay_of(stored).secret == "fresh-token"
    assert relay_of(stored).auth == "xoauth2"


def test_a_new_refresh_token_replaces_the_old_one(
    renewing: Callable[[str, int], Route], provider: Callable[[Answer], Provider]
) -> None:
    data = {"access_token": "fresh-token", "expires_in": 60, "refresh_token": "refresh-2"}
    api = provider(Answer(200, data))
    found = renewing(api.url, 587)
    renew_token(found, now=NOW)
    renew_token(found, now=NOW)
    assert b"refresh-2" in api.calls[1].body


def test_a_refused_token_is_an_alert_without_secrets(
    renewing: Callable[[str, int], Route], provider: Callable[[Answer], Provider]
) -> None:
    said = {"error": "invalid_grant", "error_description": "refresh-1 was revoked"}
    api = provider(Answer(400, said))
    found = renewing(api.url, closed_port())
    with pytest.raises(NoToken, match=r"400: ••• was revoked"):
        renew_token(found, now=NOW)
    check_routes()
    alert = Alert.objects.get(code="route-token")
    assert "refresh-1" not in alert.detail
    api.answer = Answer(200, {"access_token": "fresh-token"})
    check_routes()
    assert Alert.objects.get(code="route-token").closed_at is not None
