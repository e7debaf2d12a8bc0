"""A queue that is too long refuses more, with a reason, before it harms anyone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection
from pytest_django.fixtures import DjangoAssertNumQueries, Settings

from deliverability.alerts.models import Alert
from deliverability.domains.models import Domain
from sending.messages import backpressure
from sending.messages.backpressure import check_room, forget_counts, waiting_in_all, why_full
from sending.messages.models import IdempotencyKey, Message
from sending.messages.tasks import watch_queue
from tenants.directory.models import Tenant
from tenants.directory.services import get_or_create_system_tenant
from tests import make
from tests.cast import Cast
from tests.sending.messages.requests import PATH, body


@pytest.fixture(autouse=True)
def counted_anew() -> Iterator[None]:
    forget_counts()
    yield
    forget_counts()


def to(count: int) -> list[dict[str, str]]:
    return [{"email": f"ada{number}@bigmail.test"} for number in range(count)]


def test_a_workspace_with_too_much_waiting_is_told_to_come_back(
    api: make.ApiClient, acme_domain: Domain, settings: Settings
) -> None:
    settings.QUEUE_LIMIT_PER_TENANT = 2  # transactional: 3
    assert api.post(PATH, body(to=to(3))).status_code == 202
    answer = api.post(PATH, body(), **{"Idempotency-Key": "order-7"})
    assert answer.status_code == 429
    assert answer["Content-Type"] == "application/problem+json"
    assert int(answer["Retry-After"]) >= 1
    problem = answer.json()
    assert problem["code"] == "queue-full-workspace"
    assert "3 transactional messages of this workspace wait" in problem["detail"]
    assert Message.unscoped.count() == 3
    assert not IdempotencyKey.unscoped.exists(), "a refused request leaves no key"


def test_transactional_mail_is_spared_longer(
    api: make.ApiClient, acme_domain: Domain, settings: Settings
) -> None:
    settings.QUEUE_LIMIT_PER_TENANT = 2
    for stream, expected in {"broadcast": [202, 202, 429], "transactional": [202] * 3}.items():
        answers = [api.post(PATH, body(stream=stream)).status_code for _ in expected]
        assert answers == expected, stream


def test_a_heavier_workspace_may_have_more_waiting(
    api: make.ApiClient, acme_domain: Domain, settings: Settings
) -> None:
    settings.QUEUE_LIMIT_PER_TENANT = 2
    Tenant.objects.filter(pk=acme_domain.tenant_id).update(weight=2)
    answers = [api.post(PATH, body(stream="broadcast")).status_code for _ in range(5)]
    assert answers == [202, 202, 202, 202, 429]


def test_another_workspace_is_not_refused_for_it(
    api: make.ApiClient,
    globex_api: make.ApiClient,
    acme_domain: Domain,
    cast: Cast,
    settings: Settings,
) -> None:
    settings.QUEUE_LIMIT_PER_TENANT = 1
    make.domain(cast.globex, "globex.example")
    assert api.post(PATH, body(to=to(2))).status_code == 202
    assert api.post(PATH, body()).status_code == 429
    sender = {"email": "hello@globex.example"}
    assert globex_api.post(PATH, body(sender=sender)).status_code == 202


def test_it_is_taken_again_when_messages_have_left(
    api: make.ApiClient, acme_domain: Domain, settings: Settings
) -> None:
    settings.QUEUE_LIMIT_PER_TENANT = 1
    assert api.post(PATH, body(to=to(2))).status_code == 202
    assert api.post(PATH, body()).status_code == 429
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM sending_queueentry")
    forget_counts()
    assert api.post(PATH, body()).status_code == 202


def test_counts_are_kept_between_requests(
    cast: Cast, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    check_room(cast.acme, "broadcast", messages=1)
    with django_assert_num_queries(0):
        check_room(cast.acme, "broadcast", messages=1)


def full(monkeypatch: pytest.MonkeyPatch, settings: Settings, waiting: int) -> None:
    """Let PostgreSQL's figure be `waiting` with a limit of 100."""
    settings.QUEUE_LIMIT = 100
    monkeypatch.setattr(backpressure, "_estimate_all", lambda: waiting)
    forget_counts()


def test_a_full_installation_refuses_broadcast_first(
    api: make.ApiClient,
    acme_domain: Domain,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full(monkeypatch, settings, 100)
    answer = api.post(PATH, body(stream="broadcast"))
    assert (answer.status_code, answer.json()["code"]) == (429, "queue-full")
    assert api.post(PATH, body()).status_code == 202
    full(monkeypatch, settings, 150)
    assert api.post(PATH, body()).status_code == 429


def test_the_products_own_mail_is_always_taken(
    db: None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    full(monkeypatch, settings, 10_000)
    check_room(get_or_create_system_tenant(), "transactional", messages=1)


def test_operators_are_alerted_while_it_is_full(
    db: None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    full(monkeypatch, settings, 120)
    watch_queue()
    alert = Alert.objects.get(code="queue-full")
    assert "about 120 messages of all workspaces wait, the limit is 100" in alert.detail
    full(monkeypatch, settings, 99)
    assert why_full("broadcast") == ""
    watch_queue()
    alert.refresh_from_db()
    assert alert.closed_at is not None


@pytest.mark.django_db(transaction=True)
def test_postgresqls_own_figure_follows_the_queue() -> None:
    cast_tenant = make.tenant("Acme")
    before = waiting_in_all()
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO sending_queueentry (message_id, tenant_id, batch_id, domain, due_at, "
            "expires_at, attempts, worker, reason) SELECT gen_random_uuid(), %s, "
            "gen_random_uuid(), 'bigmail.test', now(), now(), 0, '', '' "
            "FROM generate_series(1, 500)",
            [cast_tenant.pk],
        )
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT 1")
    forget_counts()
    assert waiting_in_all() - before == 500
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM sending_queueentry")
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT 1")
    forget_counts()
    assert waiting_in_all() <= before
