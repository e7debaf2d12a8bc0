"""The operators' pages of a route's webhook."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from sending.routes.models import Route, RouteWebhook
from tenants.audit.models import AuditEntry
from tests.sending.feedback.provider_calls import KEYS
from tests.sending.routes.test_pages import MAILGUN, SMARTHOST, add

SENDGRID = {"name": "SendGrid", "status": "active", "api_key": "SG.very-secret"}


def webhook_page(route: Route) -> str:
    return f"/operator/routes/{route.public_id}/webhook"


def actions() -> list[tuple[str, Any]]:
    rows = AuditEntry.unscoped.filter(action__contains="webhook").order_by("id")
    return [(row.action, row.detail) for row in rows]


def test_a_providers_route_has_an_address_for_reports_on_its_page(operator: Client) -> None:
    add(operator, SENDGRID, "sendgrid")
    route = Route.objects.get()
    hook = RouteWebhook.objects.get()
    assert len(hook.token) >= 43, "256 bits"
    text = operator.get(f"/operator/routes/{route.public_id}/").content.decode()
    assert f"/hooks/{route.public_id}/{hook.token}" in text
    assert "none yet" in text
    answer = Client().post(f"/hooks/{route.public_id}/{hook.token}", b"[]", "application/json")
    assert answer.status_code == 200
    text = operator.get(f"/operator/routes/{route.public_id}/").content.decode()
    assert "none yet" not in text


def test_two_routes_have_two_addresses_and_a_smarthost_none(operator: Client) -> None:
    add(operator, SENDGRID, "sendgrid")
    add(operator, MAILGUN, "mailgun")
    add(operator, SMARTHOST)
    first, second = RouteWebhook.objects.all()
    assert first.token != second.token
    relay = Route.objects.get(kind="smarthost")
    assert operator.get(webhook_page(relay)).status_code == 404
    assert operator.post(f"{webhook_page(relay)}/renew").status_code == 422
    assert RouteWebhook.objects.count() == 2


def test_the_token_does_not_stand_in_the_clear_in_the_database(operator: Client) -> None:
    add(operator, SENDGRID, "sendgrid")
    hook = RouteWebhook.objects.get()
    operator.post(webhook_page(hook.route), {"key": KEYS["sendgrid"]})
    hook.refresh_from_db()
    with connection.cursor() as cursor:
        cursor.execute("SELECT token, secrets FROM sending_routewebhook")
        token, secrets = cursor.fetchone()
    assert hook.token not in token
    assert KEYS["sendgrid"] not in secrets


def test_a_key_is_kept_checked_and_never_shown(operator: Client) -> None:
    add(operator, MAILGUN, "mailgun")
    hook = RouteWebhook.objects.get()
    page = webhook_page(hook.route)
    assert "Signatures are not checked" in operator.get(page).content.decode()
    assert operator.post(page, {"key": "signing-very-secret"}).status_code == 302
    text = operator.get(page).content.decode()
    assert "Calls without a right signature are refused" in text
    assert "signing-very-secret" not in text
    assert operator.post(page, {"basic_auth": "user:pass-secret"}).status_code == 302
    hook.refresh_from_db()
    kept = {"basic_auth": "user:pass-secret", "key": "signing-very-secret"}
    assert json.loads(hook.secrets) == kept, "left empty, the key stays"
    operator.post(page, {"forget": "on"})
    hook.refresh_from_db()
    assert json.loads(hook.secrets) == {}
    assert [name for name, _ in actions()] == ["routes.save_webhook"] * 3
    assert "secret" not in json.dumps([detail["secrets"] for _, detail in actions()])


@pytest.mark.parametrize(
    ("provider", "fields", "wrong"),
    [
        ("sendgrid", SENDGRID, {"key": "not a key"}),
        ("sendgrid", SENDGRID, {"key": "ß"}),
        ("sendgrid", SENDGRID, {"basic_auth": "nocolon"}),
        ("sendgrid", SENDGRID, {"basic_auth": "a:b\r\nX: y"}),
        ("resend", {"name": "R", "status": "active", "api_key": "re_x"}, {"key": "whsec_%"}),
        ("mailgun", MAILGUN, {"key": "x" * 2001}),
    ],
)
def test_what_proves_nothing_is_refused(
    operator: Client, provider: str, fields: dict[str, str], wrong: dict[str, str]
) -> None:
    add(operator, fields, provider)
    hook = RouteWebhook.objects.get()
    assert operator.post(webhook_page(hook.route), wrong).status_code == 422
    hook.refresh_from_db()
    assert hook.secrets == ""


def test_a_new_address_ends_the_old_one(operator: Client) -> None:
    add(operator, SENDGRID, "sendgrid")
    hook = RouteWebhook.objects.get()
    old = f"/hooks/{hook.route.public_id}/{hook.token}"
    operator.post(webhook_page(hook.route), {"key": KEYS["sendgrid"]})
    assert operator.post(f"{webhook_page(hook.route)}/renew").status_code == 302
    assert Client().get(old).status_code == 404
    hook.refresh_from_db()
    assert Client().get(f"/hooks/{hook.route.public_id}/{hook.token}").status_code == 200
    assert json.loads(hook.secrets) == {"key": KEYS["sendgrid"]}
    assert actions()[-1] == ("routes.renew_webhook", {"first": False})


def test_a_route_of_before_gets_its_address_by_a_button(operator: Client) -> None:
    route = Route.objects.create(name="Old", kind="http", options={"provider": "postmark"})
    text = operator.get(f"/operator/routes/{route.public_id}/").content.decode()
    assert "Make an address for reports" in text
    assert operator.get(webhook_page(route)).status_code == 404
    operator.post(f"{webhook_page(route)}/renew")
    assert operator.get(webhook_page(route)).status_code == 200


def test_a_topic_is_kept_in_the_open(operator: Client) -> None:
    route = Route.objects.create(name="SES", kind="http", options={"provider": "amazon_ses"})
    operator.post(f"{webhook_page(route)}/renew")
    assert operator.post(webhook_page(route), {"topic_arn": "my topic"}).status_code == 422
    arn = "arn:aws:sns:eu-central-1:1:mail"
    assert operator.post(webhook_page(route), {"topic_arn": arn}).status_code == 302
    assert arn in operator.get(webhook_page(route)).content.decode()


def test_members_do_not_learn_of_it(alice: Client) -> None:
    route = Route.objects.create(name="SES", kind="http", options={"provider": "postmark"})
    RouteWebhook.objects.create(route=route, token="t")
    assert alice.get(webhook_page(route)).status_code == 404
    assert alice.post(f"{webhook_page(route)}/renew").status_code == 404
    assert RouteWebhook.objects.get().token == "t"
