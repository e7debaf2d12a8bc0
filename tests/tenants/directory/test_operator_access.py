"""What operators get by a public id, and what everybody else gets: no word of it."""

from __future__ import annotations

import pytest

from deliverability.holds.access import access_hold
from deliverability.holds.models import SendingHold
from esp.lib.errors import NotFound
from esp.lib.ids import new_id, to_public
from sending.lanes.access import access_lane
from sending.lanes.models import LaneState
from tenants.accounts.models import User
from tenants.directory.access import access_tenant
from tests import make
from tests.cast import Cast


@pytest.fixture
def boss(cast: Cast) -> User:
    return make.user("olga@mailwright.test", name="Operator", is_operator=True)


def test_an_operator_gets_what_the_id_names(cast: Cast, boss: User) -> None:
    lane = LaneState.objects.create(source_id="", site="google")
    LaneState.objects.create(source_id="", site="yahoo")
    assert access_lane(boss, lane.public_id) == lane
    assert access_tenant(boss, to_public("ten", cast.globex.pk)) == cast.globex


def test_nobody_else_learns_whether_it_is_there(cast: Cast, boss: User) -> None:
    lane = LaneState.objects.create(source_id="", site="google")
    said = set()
    for who, public_id in (
        (cast.alice, lane.public_id),
        (cast.alice, "lane_nonsense"),
        (boss, to_public("lane", new_id())),
        (boss, to_public("lim", lane.pk)),
        (boss, "lane_nonsense"),
    ):
        with pytest.raises(NotFound) as refused:
            access_lane(who, public_id)
        said.add(str(refused.value))
    assert said == {"There is no such lane."}


def test_a_hold_is_found_under_its_own_tenant_only(cast: Cast, boss: User) -> None:
    hold = SendingHold.unscoped.create(tenant_id=cast.acme.pk, reason="Too many bounces")
    public_id = to_public("hold", hold.pk)
    assert access_hold(boss, cast.acme, public_id) == hold
    with pytest.raises(NotFound):
        access_hold(boss, cast.globex, public_id)
    with pytest.raises(NotFound):
        access_hold(cast.alice, cast.acme, public_id)
