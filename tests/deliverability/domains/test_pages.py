"""The domain and sender pages at their doors."""

from __future__ import annotations

import pytest
from django.test import Client

from deliverability.domains.models import Domain, Sender
from tenants.audit.models import AuditEntry
from tenants.scoping.context import scope
from tests import make
from tests.cast import Cast
from tests.deliverability.domains.conftest import publish
from tests.engine_sink.dns_sink import DnsSink

BASE = "/deliverability"


@pytest.fixture
def domain(cast: Cast) -> Domain:
    domain = make.domain(cast.acme, "acme.example", verified=False)
    make.dkim_key(domain)
    return domain


def test_the_whole_way(alice: Client, cast: Cast, name_server: DnsSink) -> None:
    answer = alice.post(f"{BASE}/domains/add/", {"name": "acme.example"})
    assert answer.status_code == 302
    page = alice.get(answer["Location"])
    assert "v=DKIM1" in page.text
    assert "bounce.acme.example" in page.text
    check = answer["Location"] + "check/"
    assert "not there yet" in alice.post(check, follow=True).text
    with scope(cast.acme.pk):
        publish(name_server, Domain.objects.get())
    assert "is verified and may send" in alice.post(check, follow=True).text
    sender = {"name": "Acme News", "email": "news@acme.example"}
    assert alice.post(f"{BASE}/senders/add/", sender).status_code == 302
    assert "news@acme.example" in alice.get(f"{BASE}/senders/").text
    actions = set(AuditEntry.unscoped.values_list("action", flat=True))
    assert {"domains.add", "domains.check", "domains.add_sender"} <= actions


def test_a_domain_without_keys_is_shown(alice: Client, cast: Cast) -> None:
    domain = make.domain(cast.acme, "bare.example", verified=False)
    assert alice.get(f"{BASE}/domains/{domain.public_id}/").status_code == 200
    assert alice.post(f"{BASE}/domains/{domain.public_id}/check/").status_code == 302


def test_it_refuses_another_tenant(charlie: Client, domain: Domain) -> None:
    path = f"{BASE}/domains/{domain.public_id}/"
    sender = make.sender(domain)
    assert charlie.get(path).status_code == 404
    for tail in ("check/", "remove/"):
        assert charlie.post(path + tail).status_code == 404
    assert charlie.post(f"{BASE}/senders/{sender.public_id}/remove/").status_code == 404
    assert "acme.example" not in charlie.get(f"{BASE}/domains/").text
    assert Domain.unscoped.filter(pk=domain.pk).exists()
    assert Sender.unscoped.filter(pk=sender.pk).exists()


def test_it_refuses_lack_of_permission(bob: Client, domain: Domain) -> None:
    for path in ("domains/add/", "senders/add/", f"domains/{domain.public_id}/remove/"):
        assert bob.post(f"{BASE}/{path}", {"name": "b.example"}).status_code == 403


@pytest.mark.parametrize("name", ["", "co.uk", "a@b.example", "a\x00b.example", "x" * 300])
def test_bad_input_is_told_and_kept(alice: Client, name: str) -> None:
    answer = alice.post(f"{BASE}/domains/add/", {"name": name})
    assert answer.status_code == 422
    assert not Domain.unscoped.exists()


def test_a_bad_sender_is_told_and_kept(alice: Client, cast: Cast) -> None:
    make.domain(cast.acme, "acme.example")
    for fields in (
        {"name": "Eve\r\nBcc: x@y.example", "email": "a@acme.example"},
        {"name": "Eve", "email": "a@other.example"},
        {"name": "Eve", "email": "a@acme.example\r\nBcc: x@y.example"},
    ):
        answer = alice.post(f"{BASE}/senders/add/", fields)
        assert answer.status_code == 422, fields
        assert "Eve" in answer.text
    assert not Sender.unscoped.exists()


def test_a_sender_in_use_stays(alice: Client, cast: Cast) -> None:
    sender = make.sender(make.domain(cast.acme))
    make.campaign(cast.acme, sender=sender)
    assert alice.post(f"{BASE}/senders/{sender.public_id}/remove/").status_code == 409
    assert Sender.unscoped.filter(pk=sender.pk).exists()
