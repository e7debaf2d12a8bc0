"""The operator's pages of lanes and limits, and the jobs that they start."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import partial

import pytest
from django.db import connection
from django.test import Client

from esp.console import jobs, lane_views, tasks
from esp.console.lane_queue import bounce_chunk, requeue_chunk
from esp.console.lane_rows import lane_rows
from sending.events.models import Event
from sending.lanes.models import LaneState, LimitOverride, ShapingAction
from sending.messages.models import Message, QueueEntry
from tenants.audit.models import AuditEntry
from tests import make
from tests.cast import Cast

NOW = dt.datetime.now(tz=dt.UTC)


@pytest.fixture
def lane(db: None) -> LaneState:
    return LaneState.objects.create(
        source_id="", site="google", delivered=1234, day=NOW.date(), sent_day=77,
        last_reply="452 4.2.2 over quota",
    )  # fmt: skip


def page(lane: LaneState, verb: str = "") -> str:
    return f"/operator/lanes/{lane.public_id}/{verb}"


def test_the_table_shows_lanes_and_renews_itself(operator: Client, lane: LaneState) -> None:
    text = operator.get("/operator/lanes/").content.decode()
    assert "Gmail and Google Workspace" in text
    assert "1,234" in text
    part = operator.get("/operator/lanes/?q=goo", HTTP_HX_REQUEST="true").content.decode()
    assert "<html" not in part
    assert "452 4.2.2 over quota" in part
    assert "No lane matches" in operator.get("/operator/lanes/?q=nothing").content.decode()


def test_shut_lanes_come_first_and_can_be_searched_by_state(lane: LaneState) -> None:
    rest = dt.timedelta(hours=1)
    LaneState.objects.create(source_id="", site="yahoo", suspended_until=NOW + rest)
    LaneState.objects.filter(pk=lane.pk).update(updated_at=NOW + rest)
    assert [row.lane.site for row in lane_rows()] == ["yahoo", "google"]
    assert [row.lane.site for row in lane_rows(state="suspended")] == ["yahoo"]
    assert [row.lane.site for row in lane_rows(state="running")] == ["google"]


def test_an_operator_pauses_and_resumes_a_lane(operator: Client, lane: LaneState) -> None:
    answer = operator.post(page(lane, "pause"), {"pause-reason": "Their outage"}, follow=True)
    assert "Their outage" in answer.content.decode()
    lane.refresh_from_db()
    assert lane.is_paused
    assert operator.post(page(lane, "pause"), {"pause-reason": "x"}).status_code == 409
    assert operator.post(page(lane, "resume")).status_code == 302
    lane.refresh_from_db()
    assert not lane.is_paused
    assert list(ShapingAction.objects.order_by("id").values_list("action", flat=True)) == [
        "pause", "resume",
    ]  # fmt: skip


def test_a_pause_without_a_reason_is_refused(operator: Client, lane: LaneState) -> None:
    assert operator.post(page(lane, "pause"), {"pause-reason": ""}).status_code == 422
    lane.refresh_from_db()
    assert not lane.is_paused


def test_limits_of_a_lane_are_set_and_cleared(operator: Client, lane: LaneState) -> None:
    assert operator.post(page(lane, "limits"), {"per_hour": "500"}).status_code == 302
    assert LimitOverride.objects.get().key == "|google"
    shown = operator.get(page(lane)).content.decode()
    assert 'value="500"' in shown
    wrong = operator.post(page(lane, "limits"), {"per_hour": "-5", "note": "kept words"})
    assert wrong.status_code == 422
    assert "kept words" in wrong.content.decode()
    assert operator.post(page(lane, "limits"), {}).status_code == 302
    assert not LimitOverride.objects.exists()


def test_a_limit_for_a_tenant_is_set_and_removed(operator: Client, cast: Cast) -> None:
    values = {"scope": "tenant", "key": cast.acme.public_id, "per_second": "20"}
    assert operator.post("/operator/limits/", values).status_code == 302
    row = LimitOverride.objects.get()
    assert row.key == str(cast.acme.pk)
    assert "Acme" in operator.get("/operator/limits/").content.decode()
    assert operator.post(f"/operator/limits/{row.public_id}/clear").status_code == 302
    assert operator.post(f"/operator/limits/{row.public_id}/clear").status_code == 404
    bad = operator.post("/operator/limits/", {**values, "key": "nobody"})
    assert bad.status_code == 422
    assert "There is no tenant with this name or id." in bad.content.decode()


def test_a_limit_takes_a_tenants_name(operator: Client, cast: Cast) -> None:
    values = {"scope": "tenant", "key": " acme ", "per_second": "20"}
    assert operator.post("/operator/limits/", values).status_code == 302
    assert LimitOverride.objects.get().key == str(cast.acme.pk)


def test_a_suspension_is_lifted_only_where_there_is_one(operator: Client, lane: LaneState) -> None:
    assert operator.post(page(lane, "lift")).status_code == 409
    LaneState.objects.update(suspended_until=NOW + dt.timedelta(hours=1))
    assert operator.post(page(lane, "lift")).status_code == 302
    lane.refresh_from_db()
    assert lane.suspended_until is None


# Verb: the state that it needs, what is posted, and the job that it starts.
_REST = NOW + dt.timedelta(hours=1)
ACTIONS: dict[str, tuple[dict[str, object], dict[str, str], str]] = {
    "pause": ({}, {"pause-reason": "Their outage"}, ""),
    "resume": ({"is_paused": True}, {}, jobs.REQUEUE_LANE),
    "lift": ({"suspended_until": _REST}, {}, jobs.REQUEUE_LANE),
    "requeue": ({}, {}, jobs.REQUEUE_LANE),
    "drain": ({}, {}, jobs.REQUEUE_LANE),
    "bounce": ({}, {"bounce-reason": "A spam run"}, jobs.BOUNCE_LANE),
}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The jobs that the pages start."""
    found: list[str] = []
    monkeypatch.setattr(lane_views, "enqueue_on_commit", lambda name, *_: found.append(name))
    return found


@pytest.mark.parametrize("verb", ACTIONS)
def test_an_action_is_done_once_and_audited_however_often_it_is_clicked(
    operator: Client, lane: LaneState, started: list[str], verb: str
) -> None:
    state, values, job = ACTIONS[verb]
    LaneState.objects.update(**state)
    assert operator.post(page(lane, verb), values).status_code == 302
    second = operator.post(page(lane, verb), values)
    assert second.status_code in (302, 409)
    assert started == ([job] if job else [])
    (line,) = ShapingAction.objects.filter(action=verb)
    assert line.actor == "olga@mailwright.test"
    (entry,) = AuditEntry.unscoped.filter(action=f"lanes.{verb}")
    assert "olga@mailwright.test" in entry.actor_label
    assert entry.target == "unbound to google"
    assert entry.at >= NOW
    lane.refresh_from_db()
    assert lane.is_paused == (verb in ("pause", "drain"))


@pytest.mark.parametrize("verb", ACTIONS)
def test_who_is_no_operator_does_nothing_in_a_lane(
    alice: Client, visitor: Client, lane: LaneState, started: list[str], verb: str
) -> None:
    state, values, _ = ACTIONS[verb]
    LaneState.objects.update(**state)
    assert alice.post(page(lane, verb), values).status_code == 404
    assert visitor.post(page(lane, verb), values).status_code in (302, 404)
    assert (started, ShapingAction.objects.count()) == ([], 0)
    assert LaneState.objects.filter(**state).exists()


def test_ending_what_waits_needs_a_reason(operator: Client, lane: LaneState) -> None:
    assert operator.post(page(lane, "bounce"), {"bounce-reason": ""}).status_code == 422
    assert operator.post(page(lane, "bounce"), {"bounce-reason": "Spam run"}).status_code == 302
    assert ShapingAction.objects.get().title == "Spam run"


def test_members_of_tenants_find_nothing(alice: Client, bob: Client, lane: LaneState) -> None:
    for client in (alice, bob):
        assert client.get("/operator/lanes/").status_code == 404
        assert client.post(page(lane, "pause"), {"pause-reason": "x"}).status_code == 404


@pytest.fixture
def waiting(cast: Cast, acme_scope: object) -> list[Message]:
    """Three messages that wait in the lane to Google."""
    batch = make.batch(cast.acme)
    content = make.message_content(make.domain(cast.acme))
    messages = [make.message(batch, content) for _ in range(3)]
    later = NOW + dt.timedelta(hours=2)
    for message in messages:
        QueueEntry.objects.update_or_create(
            message_id=message.pk,
            defaults={
                "tenant_id": cast.acme.pk, "batch_id": message.batch_id, "domain": "gmail.test",
                "due_at": later, "expires_at": NOW + dt.timedelta(days=2), "site": "google",
                "source_id": "", "hold": "rate", "reason": "slow",
            },
        )  # fmt: skip
    return messages


def test_what_waits_in_a_lane_is_made_due_or_ended(waiting: list[Message]) -> None:
    leased = waiting[2].pk
    QueueEntry.objects.filter(pk=leased).update(worker="w1")
    assert requeue_chunk(source_id="", site="google", now=NOW) == 2
    assert requeue_chunk(source_id="", site="google", now=NOW) == 0
    assert bounce_chunk(source_id="x", site="google", reason="r", now=NOW) == 0
    assert bounce_chunk(source_id="", site="google", reason="A spam run", now=NOW) == 2
    assert [entry.pk for entry in QueueEntry.objects.all()] == [leased]
    ended = Message.objects.filter(status="bounced")
    assert ended.count() == 2
    assert ended[0].last_reply == "An operator ended it: A spam run"
    assert Event.objects.filter(kind="bounced").count() == 2


@pytest.mark.parametrize("chunk", [requeue_chunk, partial(bounce_chunk, reason="A spam run")])
def test_a_chunk_keeps_to_its_size_whatever_the_planner_believes(
    waiting: list[Message], chunk: Callable[..., int]
) -> None:
    # Where it joins with the chosen rows by a loop, it must not choose anew in each round.
    with connection.cursor() as cursor:
        for way in ("hashagg", "sort", "material", "hashjoin", "mergejoin", "indexscan",
                    "bitmapscan"):  # fmt: skip
            cursor.execute(f"SET LOCAL enable_{way} = off")
    assert chunk(source_id="", site="google", now=NOW, size=2) == 2
    assert QueueEntry.objects.filter(due_at__gt=NOW + dt.timedelta(hours=1)).count() == 1


def test_a_job_hands_over_what_it_has_no_time_for(
    waiting: list[Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "RUN_SECONDS", 0.0)
    monkeypatch.setattr(tasks, "requeue_chunk", partial(requeue_chunk, size=2))
    handed: list[tuple[object, ...]] = []
    monkeypatch.setattr(tasks, "enqueue_now", lambda *job: handed.append(job))
    tasks.requeue_lane("", "google")
    assert handed == [(jobs.REQUEUE_LANE, "", "google", 1)]
    assert QueueEntry.objects.filter(due_at__gt=NOW + dt.timedelta(hours=1)).count() == 1
    tasks.requeue_lane(*handed.pop()[1:])
    assert not QueueEntry.objects.filter(due_at__gt=NOW + dt.timedelta(hours=1)).exists()
    assert handed == []


def test_a_job_does_not_make_due_what_was_refused_meanwhile(waiting: list[Message]) -> None:
    tasks.requeue_lane("", "google", 1)
    QueueEntry.objects.update(due_at=NOW + dt.timedelta(hours=2))
    tasks.requeue_lane("", "google", 0)
    assert not QueueEntry.objects.filter(due_at__lt=NOW + dt.timedelta(hours=1)).exists()
