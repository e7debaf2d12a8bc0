"""Pools as operators make them: kinds, and overflow that makes sense."""

from __future__ import annotations

import pytest
from django.test import Client

from deliverability.ips.models import IpPool
from tests import make

NEW = "/operator/ips/pools/new"


def fields(**change: str) -> dict[str, str]:
    return {
        "name": "New",
        "purpose": "any",
        "kind": "hybrid",
        "overflow_pool": "Warm",
        "overflow_when": "full",
    } | change


def edit(operator: Client, pool: IpPool, **change: str) -> int:
    path = f"/operator/ips/pools/{pool.public_id}/"
    return operator.post(path, fields(name=pool.name, **change)).status_code


def test_a_hybrid_pool_overflows_to_another(operator: Client) -> None:
    warm = make.ip_pool("Warm")
    assert operator.post(NEW, fields()).status_code == 302
    made = IpPool.objects.get(name="New")
    assert (made.kind, made.is_shared, made.overflow_pool, made.overflow_when) == (
        "hybrid",
        False,
        warm,
        "full",
    )
    page = operator.get("/operator/ips/").content.decode()
    assert "overflows to" in page
    assert (
        'value="Warm" selected'
        in operator.get(f"/operator/ips/pools/{made.public_id}/").content.decode()
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"kind": "dedicated"}, "keeps to itself"),
        ({"overflow_pool": ""}, "Choose the pool that takes what overflows"),
        ({"overflow_when": "never"}, "Say when mail overflows"),
        ({"kind": "high_risk"}, "overflows to high-risk pools only"),
        ({"overflow_pool": "Risky"}, "Only high-risk pools overflow to a high-risk pool"),
        ({"overflow_pool": "None such"}, "Select a valid choice"),
        ({"kind": "golden"}, "Select a valid choice"),
        ({"name": "warm "}, None),  # another name: capitals count
        ({"name": "Warm"}, "Another pool has this name"),
        ({"name": " "}, "required"),
    ],
)
def test_overflow_that_makes_no_sense_is_refused(
    operator: Client, change: dict[str, str], sentence: str | None
) -> None:
    make.ip_pool("Warm")
    make.ip_pool("Risky", kind="high_risk", is_shared=False)
    answer = operator.post(NEW, fields(**change))
    if sentence is None:
        assert answer.status_code == 302
        return
    assert answer.status_code == 422
    assert sentence in answer.content.decode()
    assert IpPool.objects.count() == 2


def test_a_pool_does_not_overflow_to_itself_or_in_a_circle(operator: Client) -> None:
    last = make.ip_pool("Last")
    middle = make.ip_pool("Middle", overflow_pool=last, overflow_when="full")
    first = make.ip_pool("First", overflow_pool=middle, overflow_when="full")
    assert edit(operator, last, overflow_pool="Last") == 422
    assert edit(operator, last, overflow_pool="First") == 422
    assert edit(operator, last, overflow_pool="Middle") == 422
    last.refresh_from_db()
    assert last.overflow_pool is None
    assert edit(operator, first, overflow_pool="Last") == 302


def test_a_pool_that_others_overflow_to_does_not_become_high_risk(operator: Client) -> None:
    warm = make.ip_pool("Warm")
    make.ip_pool("Own", kind="hybrid", is_shared=False, overflow_pool=warm, overflow_when="full")
    change = {"kind": "high_risk", "overflow_pool": "", "overflow_when": "never"}
    assert edit(operator, warm, **change) == 422
    warm.refresh_from_db()
    assert (warm.kind, warm.is_shared) == ("shared", True)
