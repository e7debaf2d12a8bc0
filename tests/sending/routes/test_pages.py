"""The operators' pages: what they take, what they refuse, what they never show again."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.test import Client

from sending.routes import options as route_options
from sending.routes.models import DefaultRoute, Route, RouteRule, RouteSet
from sending.routes.providers import PROVIDERS
from tenants.audit.models import AuditEntry
from tenants.scoping.context import scope
from tests.cast import Cast
from tests.engine_sink.sink import self_signed_context
from tests.sending.routes.servers import Smarthost

SMARTHOST = {
    "name": "Relay", "status": "active", "host": "smtp.example.com", "port": "587",
    "tls": "starttls", "verify": "on", "auth": "plain", "username": "acme",
    "secret": "hunter22-secret",
}  # fmt: skip
MAILGUN = {
    "name": "Mailgun", "status": "active", "api_key": "key-very-secret",
    "sender_domain": "mg.acme.example",
}  # fmt: skip


def add(operator: Client, fields: dict[str, Any], kind: str = "smarthost") -> Any:
    return operator.post(f"/operator/routes/new/{kind}", fields)


def entries() -> list[AuditEntry]:
    return list(AuditEntry.unscoped.filter(action__startswith="routes.").order_by("id"))


@pytest.fixture
def strict(settings: Any) -> None:
    """As in production: private hosts are refused unless they are meant."""
    settings.ALLOW_PRIVATE_MX = False


def test_an_operator_adds_and_changes_a_smarthost(operator: Client) -> None:
    assert add(operator, SMARTHOST).status_code == 302
    route = Route.objects.get()
    assert json.loads(route.secrets) == {"secret": "hunter22-secret"}
    page = f"/operator/routes/{route.public_id}/"
    for address in (page, "/operator/routes/"):
        text = operator.get(address).content.decode()
        assert "smtp.example.com" in text
        assert "hunter22" not in text
    change = {**SMARTHOST, "port": "465", "tls": "implicit", "secret": ""}
    assert operator.post(page, change).status_code == 302
    route.refresh_from_db()
    assert (route.options["port"], route.options["tls"]) == (465, "implicit")
    assert json.loads(route.secrets) == {"secret": "hunter22-secret"}, "left empty, it stays"
    operator.post(page, {**change, "secret": "another-secret"})
    created, moved, renewed = entries()
    assert created.action == "routes.create_route"
    assert moved.detail == {"port": [587, 465], "tls": ["starttls", "implicit"]}
    assert renewed.detail == {"secrets": ["secret"]}
    assert "hunter22" not in json.dumps([entry.detail for entry in entries()])


def test_a_saved_change_starts_with_clean_health(operator: Client) -> None:
    add(operator, SMARTHOST)
    Route.objects.update(failures=5, last_error="wrong password", rests_until="2030-01-01T00:00Z")
    route = Route.objects.get()
    operator.post(f"/operator/routes/{route.public_id}/", {**SMARTHOST, "secret": "right-one"})
    route.refresh_from_db()
    assert (route.failures, route.rests_until, route.last_error) == (0, None, "")


@pytest.mark.parametrize(
    ("change", "field", "word"),
    [
        ({"host": "smtp example"}, "host", "host name"),
        ({"host": "smtp.example.com:587"}, "host", "without a port"),
        ({"host": "http://smtp.example.com"}, "host", "host name"),
        ({"host": "127.0.0.1"}, "host", "public internet"),
        ({"host": "127.1"}, "host", "host name"),
        ({"host": "0177.0.0.1"}, "host", "host name"),
        ({"host": "0x7f.0x1"}, "host", "host name"),
        ({"host": "::127.0.0.1"}, "host", "public internet"),
        ({"host": "64:ff9b::7f00:1"}, "host", "public internet"),
        ({"host": "smtp..example.com"}, "host", "host name"),
        ({"host": "user@smtp.example.com"}, "host", "host name"),
        ({"host": "10.1.2.3"}, "host", "public internet"),
        ({"host": "::1"}, "host", "public internet"),
        ({"host": "localhost"}, "host", "public internet"),
        ({"host": "mail.internal"}, "host", "public internet"),
        ({"port": "0"}, "port", "1 to 65535"),
        ({"port": "70000"}, "port", "1 to 65535"),
        ({"username": "bob\r\nRCPT TO:<x@y.example>"}, "username", "line break"),
        ({"secret": "pass\nword"}, "secret", "line break"),
        ({"tls": "never"}, "tls", "in clear"),
        ({"tls": "opportunistic"}, "tls", "in clear"),
        ({"tls": "sometimes"}, "tls", "valid choice"),
        ({"verify": ""}, "verify", "in between"),
        ({"secret": ""}, "secret", "Give the password"),
        ({"username": ""}, "username", "user name"),
        ({"auth": "xoauth2_refresh", "refresh_token": "r", "client_id": "c",
          "token_url": "http://login.example.com/token"}, "token_url", "in clear"),
        ({"auth": "xoauth2_refresh", "refresh_token": "r",
          "token_url": "https://login.example.com/token"}, "client_id", "client ID"),
        ({"auth": "xoauth2_refresh", "client_id": "c",
          "token_url": "https://login.example.com/token"}, "refresh_token", "refresh token"),
        ({"certificate": "nonsense", "key": "nonsense"}, "certificate", "PEM"),
        ({"certificate": "nonsense"}, "key", "both"),
        ({"name": "a|b"}, "name", "letters, digits"),
        ({"name": "n" * 51}, "name", "at most 50"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("strict")
def test_wrong_settings_are_refused_with_the_reason(
    operator: Client, change: dict[str, str], field: str, word: str
) -> None:
    answer = add(operator, SMARTHOST | change)
    assert answer.status_code == 422
    assert word in " ".join(answer.context["form"].errors[field])
    assert "hunter22" not in answer.content.decode()
    assert not Route.objects.exists()


@pytest.mark.usefixtures("strict")
def test_a_host_of_ones_own_network_is_taken_when_it_is_meant(operator: Client) -> None:
    own = {**SMARTHOST, "host": "10.1.2.3", "own_network": "on", "verify": ""}
    assert add(operator, own).status_code == 302


def test_a_client_certificate_needs_its_own_key(operator: Client, tmp_path: Any) -> None:
    self_signed_context(tmp_path)
    key, certificate = (tmp_path / "sink.pem").read_text().split("-----BEGIN CERT")
    pair = {"certificate": f"-----BEGIN CERT{certificate}", "key": key}
    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()  # fmt: skip
    answer = add(operator, SMARTHOST | pair | {"key": other})
    assert "does not belong" in str(answer.context["form"].errors["key"])
    assert other.splitlines()[1] not in answer.content.decode()
    assert add(operator, SMARTHOST | pair).status_code == 302
    shown = operator.get(f"/operator/routes/{Route.objects.get().public_id}/").content.decode()
    assert "PRIVATE KEY" not in shown


def test_two_routes_cannot_have_one_name(operator: Client) -> None:
    add(operator, SMARTHOST)
    answer = add(operator, SMARTHOST)
    assert "Another route" in str(answer.context["form"].errors["name"])


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_each_provider_can_be_added(operator: Client, name: str) -> None:
    provider = PROVIDERS[name]
    fields = {"name": provider.title, "status": "active"}
    fields |= {field.name: f"value-{field.name}" for field in provider.fields if field.is_required}
    if not provider.base_url:
        fields["base_url"] = "https://postal.example.com/"
    assert add(operator, fields, name).status_code == 302
    route = Route.objects.get()
    assert (route.kind, route.options["provider"]) == ("http", name)
    assert set(json.loads(route.secrets)) == set(provider.secret_names)
    text = operator.get(f"/operator/routes/{route.public_id}/").content.decode()
    assert not any(f"value-{secret}" in text for secret in provider.secret_names)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"api_key": ""}, "api_key"),
        ({"sender_domain": ""}, "sender_domain"),
        ({"sender_domain": "a//b"}, "sender_domain"),
        ({"sender_domain": "../x"}, "sender_domain"),
        ({"base_url": "http://api.example.com/"}, "base_url"),
        ({"base_url": "https://127.0.0.1/"}, "base_url"),
        ({"base_url": "https://127.1/"}, "base_url"),
        ({"base_url": "https://0x7f000001/"}, "base_url"),
        ({"base_url": "https://2130706433/"}, "base_url"),
        ({"base_url": "https://user:pw@api.example.com/"}, "base_url"),
        ({"base_url": "ftp://api.example.com/"}, "base_url"),
        ({"base_url": "https://api.example.com:99999/"}, "base_url"),
    ],
)
@pytest.mark.usefixtures("strict")
def test_wrong_provider_settings_are_refused(
    operator: Client, change: dict[str, str], field: str
) -> None:
    answer = add(operator, MAILGUN | change, "mailgun")
    assert answer.status_code == 422
    assert answer.context["form"].errors[field]
    assert "very-secret" not in answer.content.decode()


def test_an_unknown_provider_is_not_there(operator: Client) -> None:
    assert operator.get("/operator/routes/new/carrier-pigeon").status_code == 404


def test_a_provider_says_what_to_install(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route_options.importlib.util, "find_spec", lambda name: None)
    assert "requirements/ses.txt" in operator.get("/operator/routes/new").content.decode()
    fields = {"name": "SES", "status": "active", "access_key_id": "a", "secret_access_key": "b",
              "region": "eu-central-1"}  # fmt: skip
    answer = add(operator, fields, "amazon_ses")
    assert answer.status_code == 422
    assert "boto3" in answer.content.decode()


# --- sets, defaults, rules ---


@pytest.fixture
def relay(operator: Client) -> Route:
    add(operator, SMARTHOST)
    return Route.objects.get()


def set_fields(route: Route, **fields: str) -> dict[str, str]:
    key = route.public_id
    chosen = {f"use-{key}": "on", f"place-{key}": "1", f"weight-{key}": "1"}
    return {"name": "Main", "strategy": "failover"} | chosen | fields


def test_an_operator_makes_a_set_and_chooses_it(operator: Client, relay: Route, cast: Cast) -> None:
    add(operator, {"name": "Own", "status": "active"}, "direct")
    own = Route.objects.get(kind="direct")
    fields = set_fields(relay, **{f"place-{relay.public_id}": "2"})
    fields |= {f"use-{own.public_id}": "on", f"place-{own.public_id}": "1"}
    assert operator.post("/operator/routes/sets/new", fields).status_code == 302
    found = RouteSet.objects.get()
    order = [row.route.name for row in found.members.order_by("position")]
    assert order == ["Own", "Relay"]
    operator.post("/operator/routes/defaults", {"stream": "any", "route_set": "Main"})
    assert DefaultRoute.objects.get().route_set == found
    page = f"/operator/tenants/{cast.acme.public_id}/routes"
    assert operator.post(page, {"stream": "broadcast", "route_set": "Main"}).status_code == 302
    with scope(cast.acme.pk):
        assert RouteRule.objects.get().route_set == found
    assert "Main" in operator.get(page).content.decode()
    assert "Main" in operator.get("/operator/routes/sets/").content.decode()
    actions = {entry.action for entry in entries()}
    assert {"routes.create_set", "routes.set_default", "routes.assign_set"} <= actions
    assert AuditEntry.unscoped.get(action="routes.assign_set").tenant == cast.acme


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"use": ""}, "at least one route"),
        ({"strategy": "weighted", "weight": "0"}, "above 0"),
        ({"weight": "-1"}, "A number from 0 to 1000."),
        ({"weight": "1001"}, "A number from 0 to 1000."),
        ({"place": "0"}, "A number from 1 to 99, or empty."),
        ({"strategy": "luck"}, "valid choice"),
        ({"name": " "}, "required"),
    ],
)
def test_wrong_sets_are_refused(
    operator: Client, relay: Route, change: dict[str, str], word: str
) -> None:
    fields = set_fields(relay)
    for name, value in change.items():
        fields[name if name in fields else f"{name}-{relay.public_id}"] = value
    answer = operator.post("/operator/routes/sets/new", fields)
    assert answer.status_code == 422
    assert word in answer.content.decode()
    assert not RouteSet.objects.exists()


def test_two_routes_cannot_have_one_place_in_an_order(operator: Client, relay: Route) -> None:
    add(operator, {"name": "Own", "status": "active"}, "direct")
    own = Route.objects.get(kind="direct")
    fields = set_fields(relay) | {f"use-{own.public_id}": "on", f"place-{own.public_id}": "1"}
    answer = operator.post("/operator/routes/sets/new", fields)
    assert answer.status_code == 422
    assert "Own has this place, too." in answer.content.decode()
    # By weight the place says nothing.
    answer = operator.post("/operator/routes/sets/new", fields | {"strategy": "weighted"})
    assert answer.status_code == 302


def test_names_that_differ_in_capitals_only_are_refused(operator: Client, relay: Route) -> None:
    answer = add(operator, SMARTHOST | {"name": "relay"})
    assert "Another route has this name." in answer.content.decode()
    operator.post("/operator/routes/sets/new", set_fields(relay))
    answer = operator.post("/operator/routes/sets/new", set_fields(relay, name="MAIN"))
    assert "Another set has this name." in answer.content.decode()
    mine = f"/operator/routes/sets/{RouteSet.objects.get().public_id}/"
    assert operator.post(mine, set_fields(relay, name="MAIN")).status_code == 302


def test_fields_that_few_need_are_folded_away_until_they_are_used(operator: Client) -> None:
    page = operator.get("/operator/routes/new/smarthost").content.decode()
    assert page.count('<details class="surface">') == 2
    refused = add(operator, SMARTHOST | {"certificate": "no certificate"}).content.decode()
    assert refused.count('<details class="surface" open>') == 1


def test_what_is_in_use_cannot_be_removed(operator: Client, relay: Route, cast: Cast) -> None:
    operator.post("/operator/routes/sets/new", set_fields(relay))
    found = RouteSet.objects.get()
    of_route = f"/operator/routes/{relay.public_id}/remove"
    of_set = f"/operator/routes/sets/{found.public_id}/remove"
    rule = {"stream": "any", "route_set": "Main"}
    assert operator.post(of_route).status_code == 409
    operator.post("/operator/routes/defaults", rule)
    assert operator.post(of_set).status_code == 409
    operator.post("/operator/routes/defaults", {"stream": "any", "route_set": ""})
    page = f"/operator/tenants/{cast.acme.public_id}/routes"
    operator.post(page, rule)
    assert operator.post(of_set).status_code == 409, "a tenant's rule counts, too"
    operator.post(page, {"stream": "any", "route_set": ""})
    assert operator.post(of_set).status_code == 302
    assert operator.post(of_route).status_code == 302
    assert not Route.objects.exists()


def test_a_stream_has_one_default(operator: Client, relay: Route) -> None:
    for name in ("Main", "Other"):
        operator.post("/operator/routes/sets/new", set_fields(relay, name=name))
        operator.post("/operator/routes/defaults", {"stream": "broadcast", "route_set": name})
    assert [row.route_set.name for row in DefaultRoute.objects.all()] == ["Other"]
    answer = operator.post("/operator/routes/defaults", {"stream": "fax", "route_set": "Main"})
    assert answer.status_code == 422


def test_direct_delivery_is_one_route(operator: Client) -> None:
    add(operator, {"name": "Own", "status": "active"}, "direct")
    answer = add(operator, {"name": "Own 2", "status": "active"}, "direct")
    assert answer.status_code == 422


def test_a_route_is_tested_in_words(
    operator: Client, smarthost: Callable[..., Smarthost], server_tls: ssl.SSLContext
) -> None:
    server = smarthost(server_tls, password="hunter22-secret")
    own = {"host": "127.0.0.1", "port": str(server.port), "verify": "", "own_network": "on"}
    add(operator, SMARTHOST | own)
    route = Route.objects.get()
    answer = operator.post(f"/operator/routes/{route.public_id}/test")
    text = answer.content.decode()
    assert "The route works." in text
    assert "Log in as acme" in text
    assert server.inbox.messages == []
    wrong = {**SMARTHOST, **own, "secret": "wrong-password"}
    operator.post(f"/operator/routes/{route.public_id}/", wrong)
    text = operator.post(f"/operator/routes/{route.public_id}/test").content.decode()
    assert "cannot be used now" in text
    assert "wrong-password" not in text
    route.refresh_from_db()
    assert route.failures == 1


def test_nobody_else_gets_in(alice: Client, operator: Client, relay: Route) -> None:
    for path in ("/operator/routes/", f"/operator/routes/{relay.public_id}/"):
        assert alice.get(path).status_code == 404
        assert operator.get(path).status_code == 200
