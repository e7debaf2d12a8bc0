"""What workers write of lanes, and what operators do with them."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

from deliverability.alerts.models import Alert
from deliverability.holds.models import SendingHold
from deliverability.holds.selectors import hold_for, holds_in_force
from deliverability.holds.services import lift_hold, place_hold
from esp.lib.errors import Conflict, InvalidInput, NotFound
from esp.lib.ids import new_id
from sending.dispatch.upkeep import _exchange, _tell
from sending.engine.ports import Lane
from sending.engine.shaping.sites import route_site
from sending.lanes import services
from sending.lanes.models import LaneState, LimitOverride, ShapingAction
from sending.lanes.selectors import actions_for_tenant, counts_for, lane_facts, limits_snapshot
from sending.lanes.trouble import ALARM_CODE
from sending.lanes.types import Action, Alarm, LaneCount, Quota
from tenants.accounts.models import User
from tenants.audit.models import AuditEntry
from tests import make
from tests.cast import Cast

NOW = dt.datetime.now(tz=dt.UTC).replace(microsecond=0)
HOUR = NOW.replace(minute=0, second=0)
# One that is there before tests are collected must be the same in every worker of them.
TENANT = "01890000-0000-7000-8000-000000000007"
LANE = Lane("", "google")


@pytest.fixture
def boss(db: None) -> User:
    return make.user("olga@mailwright.test", name="Operator", is_operator=True)


def count(**changes: object) -> LaneCount:
    base = LaneCount(LANE, NOW, HOUR, 10, 7, 2, 1, "452 4.2.2 full", 3.0)
    return replace(base, **changes)  # type: ignore[arg-type]


def action(**changes: object) -> Action:
    base = Action(
        at=NOW, action="suspend", rule="google-unusual-rate", title="Google sees too much",
        lane=LANE, source_address="192.0.2.1", tenant="", batch="", message_id=None,
        reply="421 4.7.28 try later, [address]", until=NOW + dt.timedelta(hours=1),
    )  # fmt: skip
    return replace(base, **changes)  # type: ignore[arg-type]


def test_counts_add_up_by_hour_and_day(db: None) -> None:
    services.add_counts([count(), count(lane=Lane("", "yahoo"))])
    services.add_counts([count(last_reply="")])
    row = LaneState.objects.get(site="google")
    assert (row.sent_hour, row.sent_day, row.delivered, row.deferred, row.bounced) == (
        20, 20, 14, 4, 2,
    )  # fmt: skip
    assert row.last_reply == "452 4.2.2 full"
    later = HOUR + dt.timedelta(hours=1)
    services.add_counts([count(hour=later, at=later)])
    row.refresh_from_db()
    assert row.sent_hour == 10
    assert row.sent_day == (30 if later.date() == HOUR.date() else 10)
    # What comes late does not disturb the new hour.
    services.add_counts([count()])
    row.refresh_from_db()
    assert (row.sent_hour, row.hour) == (10, later)


def test_counts_seed_the_throttle(db: None) -> None:
    services.add_counts([count()])
    found = counts_for([LANE, Lane("", "nowhere")])
    assert list(found) == [LANE]
    assert (found[LANE].hour, found[LANE].day) == (10, 10)


def test_a_suspension_stands_in_the_lane_with_one_line_however_many_met_it(db: None) -> None:
    assert services.write_actions([action()]) == 1
    assert services.write_actions([action(), action(until=NOW + dt.timedelta(hours=2))]) == 0
    row = LaneState.objects.get()
    assert row.suspended_until == NOW + dt.timedelta(hours=2)
    line = ShapingAction.objects.get()
    assert (line.rule, line.reply) == ("google-unusual-rate", "421 4.7.28 try later, [address]")
    closed = limits_snapshot(NOW).closed[LANE]
    assert (closed.hold, closed.reason) == ("suspended", "Google sees too much")
    facts = lane_facts("", "google", now=NOW)
    assert (facts.state, facts.until) == ("suspended", row.suspended_until)
    assert facts.last_action == line


def test_a_rule_holds_a_batch_and_its_tenant_can_read_why(cast: Cast) -> None:
    batch = new_id()
    held = action(
        action="hold_batch", rule="spam-content", tenant=str(cast.acme.pk), batch=str(batch)
    )
    assert services.write_actions([held, held]) == 1
    hold = hold_for(cast.acme.pk, batch, "broadcast")
    assert hold is not None
    assert "Google sees too much" in hold.reason
    assert hold_for(cast.acme.pk, new_id(), "broadcast") is None
    assert hold_for(cast.globex.pk, batch, "broadcast") is None
    assert actions_for_tenant(cast.acme.pk).get().action == "hold_batch"


def test_a_hold_of_a_tenant_that_is_gone_is_no_failure(db: None) -> None:
    assert services.write_actions([action(action="hold_tenant", tenant=str(new_id()))]) == 0


def test_operators_place_and_lift_holds(cast: Cast, boss: User) -> None:
    hold = place_hold(operator=boss, tenant=cast.acme, reason="Complaints", stream="broadcast")
    assert [one.id for one in holds_in_force()] == [hold.pk]
    assert hold_for(cast.acme.pk, new_id(), "transactional") is None
    lift_hold(operator=boss, hold=hold)
    assert holds_in_force() == []
    with pytest.raises(Conflict):
        lift_hold(operator=boss, hold=hold)
    actions = AuditEntry.unscoped.filter(tenant=cast.acme).values_list("action", flat=True)
    assert {"holds.place", "holds.lift"} <= set(actions)


def test_a_hold_needs_a_reason_and_an_end_to_come(cast: Cast, boss: User) -> None:
    with pytest.raises(InvalidInput, match="why"):
        place_hold(operator=boss, tenant=cast.acme, reason="  ")
    with pytest.raises(InvalidInput, match="future"):
        place_hold(operator=boss, tenant=cast.acme, reason="x", until=NOW - dt.timedelta(days=1))
    with pytest.raises(NotFound):
        place_hold(operator=cast.alice, tenant=cast.acme, reason="x")
    assert not SendingHold.unscoped.exists()


def test_a_limit_over_the_default_reaches_the_workers(boss: User) -> None:
    services.set_limit(operator=boss, scope="lane", key="|google", quota=Quota(per_hour=500))
    assert limits_snapshot().overrides["lane", "|google"].per_hour == 500
    assert lane_facts("", "google").limits.per_hour == 500
    assert lane_facts("", "google").limits.connections is not None
    services.clear_limit(operator=boss, scope="lane", key="|google")
    assert limits_snapshot().overrides == {}
    assert ShapingAction.objects.filter(site="google", actor=boss.email).count() == 2
    with pytest.raises(NotFound):
        services.clear_limit(operator=boss, scope="lane", key="|google")


@pytest.mark.parametrize(
    ("scope", "key", "quota", "field"),
    [
        ("galaxy", "", Quota(per_hour=5), "scope"),
        ("domain", "", Quota(per_hour=5), "key"),
        ("domain", "not a domain", Quota(per_hour=5), "key"),
        ("tenant", "acme", Quota(per_hour=5), "key"),
        ("lane", "google", Quota(per_hour=5), "key"),
        ("site", "google", Quota(), "connections"),
        ("site", "google", Quota(connections=0), "connections"),
        ("site", "google", Quota(per_second=float("nan")), "per_second"),
        ("site", "google", Quota(per_day=3_000_000_000), "per_day"),
        ("site", "google", Quota(per_hour=100, per_day=50), "per_day"),
        ("tenant", TENANT, Quota(messages_per_connection=5), "messages_per_connection"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused_with_its_field(
    boss: User, scope: str, key: str, quota: Quota, field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        services.set_limit(operator=boss, scope=scope, key=key, quota=quota)
    assert refused.value.field == field
    assert not LimitOverride.objects.exists()


def test_only_operators_touch_lanes(cast: Cast) -> None:
    with pytest.raises(NotFound):
        services.pause_lane(operator=cast.alice, source_id="", site="google", reason="x")
    with pytest.raises(NotFound):
        services.set_limit(operator=cast.alice, scope="global", key="", quota=Quota(per_hour=1))


def test_a_lane_is_paused_once_and_resumed_once(boss: User) -> None:
    services.pause_lane(operator=boss, source_id="", site="google", reason="They asked")
    assert limits_snapshot().closed[LANE].reason == "They asked"
    with pytest.raises(Conflict):
        services.pause_lane(operator=boss, source_id="", site="google", reason="again")
    services.resume_lane(operator=boss, source_id="", site="google")
    assert limits_snapshot().closed == {}
    with pytest.raises(Conflict):
        services.resume_lane(operator=boss, source_id="", site="google")


def test_a_lifted_suspension_may_come_again(boss: User) -> None:
    services.write_actions([action()])
    services.lift_suspension(operator=boss, source_id="", site="google")
    assert limits_snapshot(NOW).closed == {}
    again = NOW + dt.timedelta(minutes=5)
    assert services.write_actions([action(at=again)]) == 1
    with pytest.raises(Conflict):
        services.lift_suspension(operator=boss, source_id="", site="yahoo")


def test_a_route_with_a_long_name_has_one_lane_everywhere(db: None) -> None:
    names = [route_site("Relay of the northern " + "data centre " * 4 + end) for end in "ab"]
    assert names[0] != names[1]
    assert all(len(name) <= 60 and name.startswith("route:Relay of the n") for name in names)
    lane = Lane("", names[0])
    services.add_counts([count(lane=lane)])
    services.write_actions([action(lane=lane)])
    row = LaneState.objects.get()
    assert (row.site, row.suspended_rule) == (names[0], "google-unusual-rate")
    assert list(counts_for([lane, Lane("", names[1])])) == [lane]
    assert list(limits_snapshot(NOW).closed) == [lane]
    facts = lane_facts("", names[0], now=NOW)
    assert (facts.state, facts.site_title) == ("suspended", f"Route {names[0][6:]}")


def test_an_alarm_ends_when_no_worker_is_in_trouble_any_more(db: None) -> None:
    _tell(Alarm(code=ALARM_CODE, is_on=True, title="Valkey does not answer"))
    # One worker has recovered; another has not.
    _tell(Alarm(code=ALARM_CODE, is_on=False))
    _exchange([], [], [], set())
    assert Alert.objects.get(code=ALARM_CODE).closed_at is None
    Alert.objects.update(seen_at=dt.datetime.now(tz=dt.UTC) - dt.timedelta(seconds=60))
    _exchange([], [], [], set())
    assert Alert.objects.get(code=ALARM_CODE).closed_at is not None
