"""Adding a domain, and the judgement of what real DNS look-ups answer."""

from __future__ import annotations

import uuid

import pytest

from deliverability.domains import services
from deliverability.domains.models import DkimKey, DnsCheck, Domain
from deliverability.domains.selectors import verified_domain_for
from esp.lib.errors import Conflict, InvalidInput
from tenants.directory.actor import Actor
from tenants.scoping.context import scope
from tests import make
from tests.cast import Cast
from tests.deliverability.domains.conftest import publish
from tests.engine_sink.dns_sink import DnsSink

pytestmark = pytest.mark.usefixtures("acme_scope")


@pytest.fixture
def domain(actor: Actor) -> Domain:
    return services.add_domain(actor=actor, name="acme.example")


def look(actor: Actor, domain: Domain) -> tuple[str, dict[str, str]]:
    """Check the domain; return its status and the problem of each kind that is not right."""
    services.check_domain(actor=actor, domain=domain)
    domain.refresh_from_db()
    rows = DnsCheck.objects.filter(domain=domain, is_ok=False)
    return domain.status, {row.kind: row.problem for row in rows}


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("Acme.Example.", "acme.example"),
        (" https://acme.example/about ", "acme.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("news.acme.co.uk", "news.acme.co.uk"),
    ],
)
def test_a_domain_is_stored_as_it_stands_in_dns(actor: Actor, text: str, stored: str) -> None:
    domain = services.add_domain(actor=actor, name=text)
    assert domain.name == stored
    assert {key.algorithm for key in domain.dkim_keys.all()} == set(DkimKey.Algorithm.values)


@pytest.mark.parametrize(
    "text",
    ["", "acme", "co.uk", "com", "a@acme.example", "acme..example", "-acme.example", "a b.example",
     "acme.example\r\nX: y", "acme\x00.example", "x" * 64 + ".example", "a." * 120 + "example",
     "127.0.0.1", "acme.example:25", "*.acme.example", "☃☃.\ud800"],
)  # fmt: skip
def test_what_is_no_domain_is_refused_with_a_sentence(actor: Actor, text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        services.add_domain(actor=actor, name=text)
    assert caught.value.field == "name"
    assert caught.value.message.endswith(".")


def test_adding_twice_is_a_conflict(actor: Actor, domain: Domain) -> None:
    with pytest.raises(Conflict, match="here already"):
        services.add_domain(actor=actor, name="ACME.example")


def test_records_that_stand_make_it_verified(
    actor: Actor, domain: Domain, name_server: DnsSink
) -> None:
    assert look(actor, domain)[0] == "pending"
    publish(name_server, domain)
    assert look(actor, domain) == ("verified", {})
    assert domain.verified_at is not None


def test_the_key_in_another_name_or_cut_off_is_told(
    actor: Actor, domain: Domain, name_server: DnsSink
) -> None:
    publish(name_server, domain)
    name_server.records["mw1._domainkey.acme.example TXT"] = ['"v=DKIM1; k=rsa; p=AAAA"']
    assert "another key" in look(actor, domain)[1]["dkim-rsa"]
    name_server.records["mw1._domainkey.acme.example TXT"] = ['"v=DKIM1; k=rsa"']
    assert "cut off" in look(actor, domain)[1]["dkim-rsa"]
    assert domain.status == "pending"


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        (['"v=DMARC1; p=none"', '"v=DMARC1; p=reject"'], "two DMARC records"),
        (['"v=spf1 -all"'], "none that begins with v=DMARC1"),
        (['"v=DMARC1; p=maybe"'], "must be none, quarantine or reject"),
    ],
)
def test_a_dmarc_record_that_is_none_is_told(
    actor: Actor, domain: Domain, name_server: DnsSink, texts: list[str], problem: str
) -> None:
    publish(name_server, domain)
    name_server.records["_dmarc.acme.example TXT"] = texts
    status, problems = look(actor, domain)
    assert status == "pending"
    assert problem in problems["dmarc"]


def test_a_stricter_policy_is_fine(actor: Actor, domain: Domain, name_server: DnsSink) -> None:
    publish(name_server, domain)
    name_server.records["_dmarc.acme.example TXT"] = ['"v=DMARC1;p=reject;rua=mailto:a@b.example"']
    assert look(actor, domain)[0] == "verified"


def test_a_return_path_that_points_elsewhere_is_told(
    actor: Actor, domain: Domain, name_server: DnsSink
) -> None:
    publish(name_server, domain)
    name_server.records["bounce.acme.example CNAME"] = ["elsewhere.example."]
    status, problems = look(actor, domain)
    assert status == "pending"
    assert "It points to elsewhere.example" in problems["return-path"]


def test_what_is_recommended_only_does_not_hold_it_up(
    actor: Actor, domain: Domain, name_server: DnsSink
) -> None:
    publish(name_server, domain)
    del name_server.records["mw2._domainkey.acme.example TXT"]
    del name_server.records["track.acme.example CNAME"]
    status, problems = look(actor, domain)
    assert status == "verified"
    assert set(problems) == {"dkim-ed25519", "tracking"}


def test_name_servers_that_fail_take_nothing_from_a_verified_domain(
    actor: Actor, domain: Domain, name_server: DnsSink
) -> None:
    publish(name_server, domain)
    look(actor, domain)
    name_server.faults["mw1._domainkey.acme.example"] = "servfail"
    status, problems = look(actor, domain)
    assert status == "verified"
    assert "did not answer" in problems["dkim-rsa"]


def test_a_record_that_is_gone_stops_a_verified_domain(
    actor: Actor, domain: Domain, name_server: DnsSink
) -> None:
    publish(name_server, domain)
    look(actor, domain)
    del name_server.records["mw1._domainkey.acme.example TXT"]
    assert look(actor, domain)[0] == "failing"
    assert verified_domain_for("a@acme.example") is None
    publish(name_server, domain)
    assert look(actor, domain)[0] == "verified"


def test_a_domain_without_keys_is_never_verified(
    actor: Actor, domain: Domain, name_server: DnsSink
) -> None:
    publish(name_server, domain)
    domain.dkim_keys.all().delete()
    assert look(actor, domain)[0] == "pending"


def test_a_domain_that_another_tenant_has_verified_is_refused(
    actor: Actor, domain: Domain, name_server: DnsSink, cast: Cast
) -> None:
    with scope(cast.globex.pk):
        make.domain(cast.globex, "acme.example")
    publish(name_server, domain)
    with pytest.raises(Conflict, match="verified in another workspace"):
        services.check_domain(actor=actor, domain=domain)
    domain.refresh_from_db()
    assert domain.status == "pending"


def test_a_domain_that_has_sent_stays(actor: Actor, cast: Cast) -> None:
    domain = make.domain(cast.acme)
    make.message_content(domain)
    with pytest.raises(Conflict, match="has sent mail"):
        services.remove_domain(actor=actor, domain=domain)
    assert Domain.objects.filter(pk=domain.pk).exists()


def test_a_domain_whose_sender_a_campaign_uses_stays(actor: Actor, cast: Cast) -> None:
    domain = make.domain(cast.acme)
    make.campaign(cast.acme, sender=make.sender(domain))
    with pytest.raises(Conflict):
        services.remove_domain(actor=actor, domain=domain)


@pytest.mark.parametrize(
    "fields",
    [
        {"email": "a@other.example"},
        {"email": "a@pending.example"},
        {"email": "a@globex.example"},
        {"name": "Eve\r\nBcc: all@acme.example"},
        {"name": "Eve\x00"},
        {"name": " "},
        {"email": "no address"},
        {"email": "a@acme.example\r\nBcc: b@c.example"},
        {"reply_to": "a@acme.example\r\nX: y"},
    ],
)
def test_a_sender_that_may_not_be_is_refused(
    actor: Actor, cast: Cast, fields: dict[str, str]
) -> None:
    make.domain(cast.acme, "acme.example")
    make.domain(cast.acme, "pending.example", verified=False)
    make.domain(cast.globex, "globex.example")
    values = {"name": "Acme News", "email": "news@acme.example", "reply_to": "", **fields}
    with pytest.raises(InvalidInput):
        services.add_sender(actor=actor, **values)


def test_a_sender_on_a_subdomain_and_an_idn_domain_is_covered(actor: Actor, cast: Cast) -> None:
    make.domain(cast.acme, "acme.example")
    make.domain(cast.acme, "xn--bcher-kva.example")
    for email in ("a@news.acme.example", "a@bücher.example"):
        assert services.add_sender(actor=actor, name="A", email=email).pk
    with pytest.raises(Conflict):
        services.add_sender(actor=actor, name="A", email="A@news.acme.example")


def test_it_demands_the_permission(cast: Cast) -> None:
    reader = Actor(tenant_id=cast.acme.pk, permissions=frozenset({"domains:read"}))
    domain = make.domain(cast.acme, f"{uuid.uuid4().hex}.example")
    for call in (
        lambda: services.add_domain(actor=reader, name="a.example"),
        lambda: services.check_domain(actor=reader, domain=domain),
        lambda: services.remove_domain(actor=reader, domain=domain),
        lambda: services.add_sender(actor=reader, name="a", email="a@acme.example"),
    ):
        with pytest.raises(Exception, match="permission"):
            call()
