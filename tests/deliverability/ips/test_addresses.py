"""Source IPs as operators run them: quarantine, caps, their name in DNS, their node."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings

from deliverability.alerts.models import Alert
from deliverability.ips import caps
from deliverability.ips.models import DeliveryNode, IpAddress, IpCap
from deliverability.ips.nodes import beat
from deliverability.ips.services import check_addresses, check_nodes
from tenants.audit.models import AuditEntry
from tests import make
from tests.deliverability.domains.conftest import name_server
from tests.engine_sink.dns_sink import DnsSink

__all__ = ["name_server"]

TODAY = dt.datetime.now(dt.UTC).date()


@pytest.fixture
def row(db: None) -> IpAddress:
    return make.ip_address(make.ip_pool("Main"), "127.0.9.1", ehlo_name="out1.mailwright.test")


@pytest.fixture(autouse=True)
def no_caps_kept() -> Iterator[None]:
    caps.forget_caps()
    yield
    caps.forget_caps()


def fields(**change: str) -> dict[str, str]:
    found = {"ehlo_name": "out1.mailwright.test", "pool": "Main", "weight": "1"}
    return found | {"status": "active"} | change


def path(row: IpAddress, rest: str = "") -> str:
    return f"/operator/ips/{row.public_id}/{rest}"


def test_a_quarantine_needs_a_reason_which_goes_with_it(operator: Client, row: IpAddress) -> None:
    assert operator.post(path(row), fields(status="quarantined")).status_code == 422
    change = fields(status="quarantined", status_reason="Listed  by a block list")
    assert operator.post(path(row), change).status_code == 302
    row.refresh_from_db()
    assert (row.status, row.status_reason) == ("quarantined", "Listed by a block list")
    assert "Listed by a block list" in operator.get("/operator/ips/").content.decode()
    assert operator.post(path(row), fields(status_reason="old")).status_code == 302
    row.refresh_from_db()
    assert (row.status, row.status_reason) == ("active", "")


def test_only_an_address_that_is_off_is_removed(operator: Client, row: IpAddress) -> None:
    assert operator.post(path(row, "remove")).status_code == 409
    IpAddress.objects.update(status="off")
    assert operator.post(path(row, "remove")).status_code == 302
    assert not IpAddress.objects.exists()


def test_no_warning_for_a_node_that_lives(operator: Client, row: IpAddress) -> None:
    beat("host-a")
    operator.post(path(row), fields(node="host-a"))
    assert "sign of life" not in operator.get("/operator/ips/").content.decode()
    operator.post(path(row), fields(node="host-b"))
    assert "No node called host-b" in operator.get("/operator/ips/").content.decode()


# --- caps ---


def test_a_cap_is_set_changed_and_cleared(operator: Client, row: IpAddress) -> None:
    cap = {"on": TODAY.isoformat(), "site": "Google", "messages": "500"}
    assert operator.post(path(row, "caps"), cap).status_code == 302
    assert operator.post(path(row, "caps"), cap | {"messages": "700"}).status_code == 302
    stored = IpCap.objects.get()
    assert (stored.site, stored.messages, stored.on) == ("google", 700, TODAY)
    assert "700" in operator.get("/operator/ips/").content.decode()
    assert "google" in operator.get(path(row)).content.decode()
    assert operator.post(path(row, f"caps/{stored.pk}/clear")).status_code == 302
    assert not IpCap.objects.exists()
    actions = AuditEntry.unscoped.filter(action__endswith="_cap").values_list("action", flat=True)
    assert sorted(actions) == ["ips.clear_cap", "ips.set_cap", "ips.set_cap"]


@pytest.mark.parametrize(
    "change",
    [
        {"messages": "-1"},
        {"messages": "many"},
        {"messages": ""},
        {"on": (TODAY - dt.timedelta(days=1)).isoformat()},
        {"on": "tomorrow"},
        {"site": "a b"},
    ],
)
def test_a_cap_that_makes_no_sense_is_refused(
    operator: Client, row: IpAddress, change: dict[str, str]
) -> None:
    cap = {"on": TODAY.isoformat(), "site": "google", "messages": "5"} | change
    assert operator.post(path(row, "caps"), cap).status_code == 422
    assert not IpCap.objects.exists()


def test_another_addresss_cap_is_not_cleared_here(operator: Client, row: IpAddress) -> None:
    other = make.ip_address(row.pool, "127.0.9.2")
    cap = IpCap.objects.create(ip=other, on=TODAY, messages=5)
    assert operator.post(path(row, f"caps/{cap.pk}/clear")).status_code == 404
    assert IpCap.objects.exists()


def test_the_sites_cap_counts_else_the_general_one_else_none(row: IpAddress) -> None:
    IpCap.objects.create(ip=row, site="google", on=TODAY, messages=10)
    IpCap.objects.create(ip=row, site="", on=TODAY, messages=50)
    caps.snapshot()
    assert caps.cap_for(row.pk, "google", TODAY) == 10
    assert caps.cap_for(str(row.pk), "yahoo", TODAY) == 50
    assert caps.cap_for(row.pk, "google", TODAY + dt.timedelta(days=1)) is None
    assert caps.cap_for("", "google", TODAY) is None


def test_caps_are_read_in_bulk_and_kept(row: IpAddress, django_assert_num_queries: object) -> None:
    caps.snapshot()
    IpCap.objects.create(ip=row, on=TODAY, messages=0)
    with django_assert_num_queries(0):  # type: ignore[operator]
        assert caps.snapshot().cap_for(row.pk, "google", TODAY) is None
    caps.forget_caps()
    with django_assert_num_queries(1):  # type: ignore[operator]
        assert caps.snapshot().cap_for(row.pk, "google", TODAY) == 0


# --- PTR ---

_REVERSE = "1.9.0.127.in-addr.arpa PTR"
_FORWARD = "out1.mailwright.test A"


def test_a_name_that_leads_there_and_back_is_right(
    operator: Client, row: IpAddress, name_server: DnsSink
) -> None:
    name_server.records |= {_REVERSE: ["out1.mailwright.test."], _FORWARD: ["127.0.9.1"]}
    assert operator.post(path(row, "check")).status_code == 302
    row.refresh_from_db()
    assert row.ptr_checked_at is not None
    assert row.ptr_problem == ""
    assert "PTR is right" in operator.get("/operator/ips/").content.decode()
    assert not Alert.objects.exists()


@pytest.mark.parametrize(
    ("records", "sentence"),
    [
        ({}, "has no PTR record"),
        ({_REVERSE: ["host1.provider.test."]}, "says host1.provider.test, the EHLO name is out1"),
        ({_REVERSE: ["out1.mailwright.test."]}, "leads to no address"),
        (
            {_REVERSE: ["out1.mailwright.test."], _FORWARD: ["127.0.9.7"]},
            "leads to 127.0.9.7, not back to 127.0.9.1",
        ),
    ],
)
def test_a_broken_name_is_shown_and_alerted_until_it_is_right(
    operator: Client,
    row: IpAddress,
    name_server: DnsSink,
    records: dict[str, list[str]],
    sentence: str,
) -> None:
    name_server.records |= records
    assert check_addresses() == 1
    row.refresh_from_db()
    assert sentence in row.ptr_problem
    assert sentence in operator.get(path(row)).content.decode()
    alert = Alert.objects.get(code="ptr-broken", subject="127.0.9.1")
    assert alert.closed_at is None
    name_server.records |= {_REVERSE: ["out1.mailwright.test."], _FORWARD: ["127.0.9.1"]}
    assert check_addresses() == 0
    alert.refresh_from_db()
    assert alert.closed_at is not None


def test_name_servers_that_do_not_answer_change_nothing(
    row: IpAddress, settings: Settings, operator: Client
) -> None:
    settings.DNS_RESOLVERS = ["127.0.0.1:9"]  # nobody listens on the discard port
    assert operator.post(path(row, "check")).status_code == 302
    row.refresh_from_db()
    assert row.ptr_checked_at is None
    assert not Alert.objects.exists()


# --- nodes ---


def test_the_page_tells_live_nodes_from_dead_ones(operator: Client, row: IpAddress) -> None:
    beat("host-a")
    DeliveryNode.objects.create(name="host-b", seen_at=timezone.now() - dt.timedelta(hours=1))
    IpAddress.objects.update(node="host-c")
    page = operator.get("/operator/ips/nodes/").content.decode()
    for word in ("host-a", "Live", "host-b", "Dead", "host-c", "Never seen", "127.0.9.1"):
        assert word in page, word


def test_a_node_is_drained_resumed_and_forgotten(operator: Client, row: IpAddress) -> None:
    beat("host-a")
    assert operator.post("/operator/ips/nodes/host-a/drain").status_code == 302
    beat("host-a")
    assert DeliveryNode.objects.get().is_draining, "a sign of life must not end the draining"
    assert operator.post("/operator/ips/nodes/host-a/resume").status_code == 302
    assert not DeliveryNode.objects.get().is_draining
    IpAddress.objects.update(node="host-a")
    assert operator.post("/operator/ips/nodes/host-a/forget").status_code == 409
    IpAddress.objects.update(node="")
    assert operator.post("/operator/ips/nodes/host-a/forget").status_code == 302
    assert operator.post("/operator/ips/nodes/host-a/drain").status_code == 404


def test_a_dead_node_with_addresses_is_an_alert_until_it_lives(row: IpAddress) -> None:
    IpAddress.objects.update(node="host-a")
    assert check_nodes() == ["host-a"]
    assert Alert.objects.get(code="node-dead").subject == "host-a"
    beat("host-a")
    assert check_nodes() == []
    assert Alert.objects.get().closed_at is not None


def test_a_node_that_is_long_gone_and_owns_nothing_is_forgotten(row: IpAddress) -> None:
    old = timezone.now() - dt.timedelta(days=8)
    DeliveryNode.objects.create(name="old-container", seen_at=old)
    DeliveryNode.objects.create(name="host-a", seen_at=old)
    IpAddress.objects.update(node="host-a", status="off")
    assert check_nodes() == []
    assert DeliveryNode.objects.get().name == "host-a"
