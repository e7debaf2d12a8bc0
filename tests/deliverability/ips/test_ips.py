"""Source IPs: which ones a stream leaves from, and what operators do with them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import Client

from deliverability.ips.models import IpAddress, IpPool, PoolRule
from deliverability.ips.selectors import forget_sources, ways_out
from tenants.audit.models import AuditEntry
from tests import make
from tests.cast import Cast


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    forget_sources()
    yield
    forget_sources()


def addresses(cast: Cast, stream: str = "broadcast") -> set[str]:
    forget_sources()
    return {way.source.address for way in ways_out(cast.acme.pk, stream, None)}


def test_without_pools_the_system_chooses(cast: Cast) -> None:
    (way,) = ways_out(cast.acme.pk, "broadcast", None)
    source = way.source
    assert (source.id, source.address) == (None, "")
    assert "." in source.ehlo_name


def test_a_rule_beats_the_streams_pool_beats_any_pool(cast: Cast) -> None:
    make.ip_address(make.ip_pool(purpose="any"), "127.0.9.1")
    assert addresses(cast) == {"127.0.9.1"}
    make.ip_address(make.ip_pool(purpose="broadcast"), "127.0.9.2")
    assert addresses(cast) == {"127.0.9.2"}
    assert addresses(cast, "transactional") == {"127.0.9.1"}
    own = make.ip_pool(is_shared=False)
    make.ip_address(own, "127.0.9.3")
    assert addresses(cast) == {"127.0.9.2"}
    make.pool_rule(cast.globex, own)
    assert addresses(cast) == {"127.0.9.2"}
    make.pool_rule(cast.acme, own)
    assert addresses(cast) == {"127.0.9.3"}
    assert addresses(cast, "transactional") == {"127.0.9.1"}


@pytest.mark.parametrize("status", ["draining", "off"])
def test_only_active_addresses_send(cast: Cast, status: str) -> None:
    pool = make.ip_pool()
    make.ip_address(pool, "127.0.9.1", status=status)
    make.ip_address(pool, "127.0.9.2")
    assert addresses(cast) == {"127.0.9.2"}


def test_what_is_kept_is_there_without_the_database(cast: Cast) -> None:
    assert ways_out(cast.acme.pk, "broadcast", None, load=False) is None
    found = ways_out(cast.acme.pk, "broadcast", None)
    assert ways_out(cast.acme.pk, "broadcast", None, load=False) == found


def test_an_operator_adds_a_pool_and_an_address(operator: Client) -> None:
    pool = {"name": "Main", "purpose": "any", "kind": "shared", "overflow_when": "never"}
    assert operator.post("/operator/ips/pools/new", pool).status_code == 302
    fields = {"address": "127.0.9.9", "ehlo_name": "OUT9.mailwright.test.", "pool": "Main"}
    fields |= {"weight": "2", "node": "host-a", "place": "Falkenstein"}
    assert operator.post("/operator/ips/new", fields).status_code == 302
    row = IpAddress.objects.get()
    assert (row.address, row.ehlo_name, row.pool.name) == (
        "127.0.9.9",
        "out9.mailwright.test",
        "Main",
    )
    assert (row.weight, row.node, row.place) == (2, "host-a", "Falkenstein")
    page = operator.get("/operator/ips/").content.decode()
    assert "127.0.9.9" in page
    assert "No node called host-a has given a sign of life" in page
    entries = AuditEntry.unscoped.filter(tenant__slug="system").values_list("action", flat=True)
    assert set(entries) == {"ips.create_pool", "ips.add_address"}


@pytest.mark.parametrize(
    "change",
    [
        {"address": "300.1.1.1"},
        {"address": "224.0.0.1"},
        {"address": "127.0.9.1"},  # taken
        {"ehlo_name": "bad host"},
        {"ehlo_name": "out\r\nEHLO x.example"},
        {"ehlo_name": "localhost"},
        {"pool": "None such"},
        {"weight": "0"},
        {"weight": "1001"},
        {"node": "a/b"},
    ],
)
def test_bad_input_adds_no_address(operator: Client, change: dict[str, str]) -> None:
    make.ip_address(make.ip_pool("Main"), "127.0.9.1")
    fields = {"address": "127.0.9.9", "ehlo_name": "o.mailwright.test", "pool": "Main"}
    fields |= {"weight": "1"} | change
    answer = operator.post("/operator/ips/new", fields)
    assert answer.status_code == 422
    assert IpAddress.objects.count() == 1


def test_an_address_is_drained(operator: Client, cast: Cast) -> None:
    row = make.ip_address(make.ip_pool("Main"), "127.0.9.1")
    fields = {"ehlo_name": row.ehlo_name, "pool": "Main", "status": "draining", "weight": "1"}
    assert operator.post(f"/operator/ips/{row.public_id}/", fields).status_code == 302
    row.refresh_from_db()
    assert row.status == IpAddress.Status.DRAINING
    assert addresses(cast) == set()  # and not by the system's choice, which may be the same


def test_a_tenants_stream_gets_a_pool_and_loses_it(operator: Client, cast: Cast) -> None:
    make.ip_pool("Own", is_shared=False)
    path = f"/operator/tenants/{cast.acme.public_id}/pool"
    assert operator.post(path, {"stream": "broadcast", "pool": "Own"}).status_code == 302
    rule = PoolRule.unscoped.get()
    assert (rule.tenant_id, rule.stream) == (cast.acme.pk, "broadcast")
    assert AuditEntry.unscoped.filter(tenant=cast.acme, action="ips.assign_pool").count() == 1
    assert operator.post(path, {"stream": "broadcast", "pool": ""}).status_code == 302
    assert not PoolRule.unscoped.exists()
    assert operator.post(path, {"stream": "moon", "pool": "Own"}).status_code == 422


def test_a_rule_may_name_a_domain_of_the_tenant_only(operator: Client, cast: Cast) -> None:
    make.ip_pool("Own", kind="dedicated", is_shared=False)
    shop = make.domain(cast.acme, "shop.example")
    foreign = make.domain(cast.globex, "globex.example")
    path = f"/operator/tenants/{cast.acme.public_id}/pool"
    fields = {"stream": "broadcast", "pool": "Own"}
    assert operator.post(path, fields | {"domain": str(foreign.pk)}).status_code == 422
    assert not PoolRule.unscoped.exists()
    assert operator.post(path, fields).status_code == 302
    assert operator.post(path, fields | {"domain": str(shop.pk)}).status_code == 302
    assert set(PoolRule.unscoped.values_list("domain_id", flat=True)) == {None, shop.pk}
    page = operator.get(f"/operator/tenants/{cast.acme.public_id}/").content.decode()
    assert "Broadcast from shop.example" in page
    assert operator.post(path, fields | {"domain": str(shop.pk), "pool": ""}).status_code == 302
    assert PoolRule.unscoped.get().domain_id is None


def test_only_an_empty_unassigned_pool_is_removed(operator: Client, cast: Cast) -> None:
    full, assigned = make.ip_pool(), make.ip_pool()
    free = make.ip_pool(kind="hybrid", overflow_pool=full, overflow_when="full")
    make.ip_address(full)
    make.pool_rule(cast.acme, assigned)
    codes = [
        operator.post(f"/operator/ips/pools/{pool.public_id}/remove").status_code
        for pool in (full, assigned, free)
    ]
    assert codes == [409, 409, 302]
    assert set(IpPool.objects.all()) == {full, assigned}


def test_a_pool_that_others_overflow_to_stays(operator: Client) -> None:
    warm = make.ip_pool("Warm")
    make.ip_pool(kind="hybrid", is_shared=False, overflow_pool=warm, overflow_when="full")
    assert operator.post(f"/operator/ips/pools/{warm.public_id}/remove").status_code == 409


def test_a_member_changes_nothing_here(alice: Client) -> None:
    row = make.ip_address(make.ip_pool("Main"), "127.0.9.1")
    fields = {"ehlo_name": row.ehlo_name, "pool": "Main", "status": "off"}
    assert alice.post(f"/operator/ips/{row.public_id}/", fields).status_code == 404
    assert alice.post("/operator/ips/pools/new", {"name": "x"}).status_code == 404
    row.refresh_from_db()
    assert row.status == IpAddress.Status.ACTIVE
