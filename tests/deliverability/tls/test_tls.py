"""The operator's TLS page, and what it reads and writes."""

from __future__ import annotations

import datetime as dt

import pytest
from django.test import Client
from django.utils import timezone

from deliverability.tls.models import TlsRequirement, TlsResult
from deliverability.tls.selectors import policy_of, required_domains
from deliverability.tls.services import SessionCount, add_results, save_policy
from tenants.audit.models import AuditEntry

pytestmark = pytest.mark.django_db


def count(**changes: object) -> SessionCount:
    fields: dict[str, object] = {
        "day": timezone.now().date(),
        "domain": "strict.test",
        "policy_type": "sts",
        "result_type": "success",
        "mx_host": "mx1.strict.test",
        "source_address": "127.0.0.1",
        "sessions": 3,
    }
    return SessionCount(**(fields | changes))  # type: ignore[arg-type]


def test_counts_of_the_same_sessions_add_up() -> None:
    add_results([count(), count(result_type="certificate-expired", sessions=1)])
    add_results([count(sessions=4)])
    rows = dict(TlsResult.objects.values_list("result_type", "sessions"))
    assert rows == {"success": 7, "certificate-expired": 1}
    add_results([])


def test_a_policy_takes_the_place_of_the_older_one() -> None:
    now = timezone.now()
    for policy_id in ("a1", "a2"):
        save_policy(
            domain="strict.test",
            policy_id=policy_id,
            mode="enforce",
            mx_patterns=["mx1.strict.test"],
            expires_at=now + dt.timedelta(days=1),
            now=now,
        )
    stored = policy_of("strict.test")
    assert stored is not None
    assert (stored.policy_id, stored.mx_patterns) == ("a2", ["mx1.strict.test"])
    assert policy_of("plain.test") is None


def test_an_operator_demands_and_releases(operator: Client) -> None:
    answer = operator.post("/operator/tls/", {"domain": " Bank.Example. ", "note": "contract"})
    assert answer.status_code == 302
    assert required_domains() == {"bank.example"}
    assert "bank.example" in operator.get("/operator/tls/").content.decode()
    assert operator.post("/operator/tls/bank.example/release").status_code == 302
    assert not TlsRequirement.objects.exists()
    actions = AuditEntry.unscoped.order_by("id").values_list("action", flat=True)
    assert list(actions)[-2:] == ["tls.require", "tls.release"]


def test_it_shows_what_failed(operator: Client) -> None:
    add_results([count(), count(result_type="certificate-host-mismatch", sessions=12)])
    page = operator.get("/operator/tls/").content.decode()
    assert "certificate-host-mismatch" in page
    assert "MTA-STS" in page


@pytest.mark.parametrize("domain", ["", "nodots", "-a.example", "a b.example", "x" * 260 + ".test"])
def test_it_refuses_what_is_no_domain(operator: Client, domain: str) -> None:
    assert operator.post("/operator/tls/", {"domain": domain}).status_code == 422
    assert not TlsRequirement.objects.exists()


def test_it_refuses_a_domain_twice(operator: Client) -> None:
    operator.post("/operator/tls/", {"domain": "bank.example"})
    answer = operator.post("/operator/tls/", {"domain": "bank.example"})
    assert answer.status_code == 422
    assert "already" in answer.content.decode()


def test_nobody_else_finds_it(alice: Client) -> None:
    assert alice.get("/operator/tls/").status_code == 404
    assert alice.post("/operator/tls/bank.example/release").status_code == 404
