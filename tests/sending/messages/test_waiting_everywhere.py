"""Each cause of waiting, made as it comes about, reads the same on page, API and terminal."""

from __future__ import annotations

import asyncio
import datetime as dt
import html
import io
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from deliverability.holds.services import place_hold
from deliverability.ips.models import DeliveryNode
from deliverability.ips.selectors import why_no_source
from esp.kit import pauses
from esp.lib.clock import SystemClock
from esp.lib.ids import new_id
from sending.dispatch import results
from sending.dispatch.claims import jobs_for
from sending.dispatch.ways import held_for_source
from sending.dispatch.work import schedule_for
from sending.engine.mx import MxResolver, MxSettings
from sending.engine.ports import Lane, Order, Outcome
from sending.lanes import services as lanes
from sending.lanes import words
from sending.lanes.models import LaneState
from sending.lanes.types import Action, Quota
from sending.messages.models import Batch, Message, QueueEntry
from sending.messages.services import pause_batch
from sending.routes.plans import Resting
from tenants.accounts.models import User
from tenants.directory.services import suspend_tenant
from tenants.scoping.context import scope
from tests import make
from tests.cast import Cast

pytestmark = pytest.mark.django_db

HOUR = dt.timedelta(hours=1)
SITE = "mx.greymail.test"
TARGET = words.lane_target("192.0.2.1", SITE)


@dataclass
class World:
    """One campaign of Acme's with one message that waits, and an operator."""

    cast: Cast
    message: Message
    operator: User

    @property
    def batch(self) -> Batch:
        return Batch.unscoped.get(pk=self.message.batch_id)

    def enter(self, **fields: object) -> None:
        QueueEntry.objects.update_or_create(pk=self.message.pk, defaults=fields)

    def comes_back(self, **fields: Any) -> None:
        """Record an outcome as a worker does."""
        values: dict[str, Any] = {
            "kind": "deferred", "phase": "throttle", "classification": "soft/throttled",
            "at": timezone.now(), "lane": Lane("", SITE), "source_address": "192.0.2.1",
        }  # fmt: skip
        self.record(Outcome(**(values | fields)))

    def record(self, outcome: Outcome) -> None:
        QueueEntry.objects.update(worker="w1", due_at=timezone.now() + HOUR)
        (job,) = jobs_for([self.message.pk])
        verdict = results.judge(job, outcome, schedule_for("broadcast"))
        results.record([verdict], worker="w1")

    def held(self, text: str, hold: str, seconds: float = 90.0) -> None:
        self.comes_back(text=text, hold=hold, retry_after_seconds=seconds)


@pytest.fixture
def world(cast: Cast, settings: Any) -> Iterator[World]:
    settings.RETRY_PROFILE = "production"
    DeliveryNode.objects.create(name="node-1", seen_at=timezone.now())
    batch = make.batch(cast.acme, label="Spring")
    message = make.message(batch, make.message_content(make.domain(cast.acme)), f"ada@{SITE[3:]}")
    made = World(cast, message, make.user("olga@mailwright.test", is_operator=True))
    made.enter(
        tenant_id=message.tenant_id, batch_id=batch.pk, domain=SITE[3:],
        due_at=timezone.now(), expires_at=message.expires_at,
    )  # fmt: skip
    forget_pause()
    yield made
    pauses.resume_claims("dns")
    forget_pause()


def forget_pause() -> None:
    pauses._last = (-10.0, "")


# --- making the causes ---------------------------------------------------------------------------


def suspended_tenant(world: World) -> None:
    suspend_tenant(operator=world.operator, tenant=world.cast.acme, reason="Unpaid since May")


def held_tenant(world: World) -> None:
    place_hold(operator=world.operator, tenant=world.cast.acme, reason="Complaints rose")


def held_campaign(world: World) -> None:
    place_hold(
        operator=world.operator, tenant=world.cast.acme, reason="A block list has the link",
        batch_id=world.batch.pk, until=timezone.now() + HOUR,
    )  # fmt: skip


def paused_campaign(world: World) -> None:
    with scope(world.cast.acme.pk):
        pause_batch(actor=world.cast.alice_actor, batch=world.batch)


def silent_dns_of_ours(_: World) -> None:
    pauses.pause_claims("dns", seconds=60)


def dead_node(world: World) -> None:
    make.ip_address(make.ip_pool(purpose="broadcast"), "192.0.2.1", node="node-9")
    seen = timezone.now() - HOUR
    DeliveryNode.objects.create(name="node-9", seen_at=seen)
    reason = why_no_source(world.cast.acme.pk, "broadcast", None)
    assert "node-9" in reason
    world.record(held_for_source(reason, timezone.now()))


def no_worker(_: World) -> None:
    DeliveryNode.objects.all().delete()


def paused_lane(world: World) -> None:
    lanes.pause_lane(operator=world.operator, source_id="", site=SITE, reason="Their outage")
    world.held(f"An operator has paused mail {TARGET}: Their outage.", "paused", 300.0)


def suspended_lane(world: World) -> None:
    until = timezone.now() + HOUR
    lanes.write_actions([
        Action(
            at=timezone.now(), action="suspend", rule="greymail-busy", title="It asked for a rest",
            lane=Lane("", SITE), source_address="192.0.2.1", tenant=str(world.cast.acme.pk),
            batch=str(world.batch.pk), message_id=world.message.pk, reply="421 4.7.0 rest",
            until=until,
        )
    ])  # fmt: skip
    assert LaneState.objects.get().suspended_until == until
    world.held(f"Mail {TARGET} rests until {words.until_text(until)}.", "suspended", 3600.0)


def limit(world: World) -> None:
    world.held(words.rate(Quota(per_minute=20), TARGET), "rate")


def limit_of_the_tenant(world: World) -> None:
    text, seconds = words.used_up("hour", 500, words.scope_target("tenant"), timezone.now())
    world.held(text, "tenant-rate", seconds)


def cap(world: World) -> None:
    text, seconds = words.cap(2500, TARGET, timezone.now())
    world.held(text, "cap", seconds)


def passed_on(world: World) -> None:
    text, seconds = words.cap(2500, TARGET, timezone.now())
    world.held(f"{text} The host b may take it before that.", "passed-on", seconds)


def resting_route(world: World) -> None:
    resting = Resting("relay-1", timezone.now() + HOUR, "535 5.7.8 wrong password")
    order = Order(new_id(), "a@a.test", "b@b.test", "b.test", "t", "b", (), lambda: b"")
    world.record(asyncio.run(resting.carry(order, b"")))


def silent_dns_of_theirs(world: World) -> None:
    """Ask a name server that is not there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))  # takes questions and answers none
        asking = MxSettings(
            nameservers=("127.0.0.1",), port=taken.getsockname()[1], timeout_seconds=0.2,
            lifetime_seconds=0.3,
        )  # fmt: skip
        answer = asyncio.run(MxResolver(asking, clock=SystemClock()).mx(SITE[3:]))
    assert answer.kind == "deferred"
    world.comes_back(
        phase="mx", classification=answer.classification, text=answer.text, lane=None,
        source_address=None,
    )  # fmt: skip


def unreachable(world: World) -> None:
    world.comes_back(
        phase="connect", classification="soft/network-error", text="The connection timed out."
    )


def no_encryption(world: World) -> None:
    world.comes_back(
        phase="tls", classification="soft/tls-failure", text="The server does not offer STARTTLS."
    )


def greylisting(world: World) -> None:
    world.comes_back(
        phase="rcpt", classification="soft/greylisted", smtp_code=451,
        text="4.7.1 Greylisted, please try again in 5 minutes", mx_host=SITE,
    )  # fmt: skip


def scheduled(world: World) -> None:
    world.enter(due_at=timezone.now() + HOUR)


def under_way(world: World) -> None:
    world.enter(worker="w1", due_at=timezone.now() + HOUR)


def expired_lease(world: World) -> None:
    world.enter(worker="w1", due_at=timezone.now() - dt.timedelta(seconds=5))


def in_line(_: World) -> None:
    """Nothing: it is due."""


# Cause: how it is made, its code, a part of its sentence, and whether the next try is known.
CASES: dict[str, tuple[Callable[[World], None], str, str, bool]] = {
    "suspended tenant": (suspended_tenant, "tenant-suspended", "Reason: Unpaid since May.", False),
    "hold on the tenant": (held_tenant, "held", "Complaints rose. It goes on when", False),
    "hold on the campaign": (held_campaign, "held", "A block list has the link.", True),
    "paused campaign": (paused_campaign, "paused", "when it is resumed", False),
    "our DNS": (silent_dns_of_ours, "engine-paused", "our name servers do not answer", False),
    "dead node": (dead_node, "no-source", "node-9", False),
    "no worker": (no_worker, "no-worker", "No delivery worker is running", False),
    "paused lane": (paused_lane, "lane-paused", "Their outage.", False),
    "suspended lane": (suspended_lane, "lane-suspended", "rests: It asked for a rest.", True),
    "limit": (limit, "limit", "At most 20 messages a minute leave from 192.0.2.1", True),
    "limit of the tenant": (limit_of_the_tenant, "limit", "limit of 500 messages", True),
    "cap": (cap, "cap", "Today's cap of 2,500 messages", True),
    "passed on": (passed_on, "passed-on", "The host b may take it before that.", True),
    "resting route": (resting_route, "route", "The route relay-1 rests", True),
    "their DNS": (silent_dns_of_theirs, "dns", "Looking up the MX records of greymail.test", True),
    "no connection": (unreachable, "unreachable", "could not be reached: The connection", True),
    "no encryption": (no_encryption, "tls", "No encrypted connection to greymail.test", True),
    "reply and back-off": (greylisting, "receiver", "Greylisted, please try again", True),
    "scheduled": (scheduled, "scheduled", "cheduled", True),
    "under way": (under_way, "leased", "eing handed over right now", False),
    "expired lease": (expired_lease, "lease-ended", "stopped before it could say", True),
    "in line": (in_line, "next", "ue", True),
}


# What holds more than the message, which itself would only wait for its turn.
HOLDS_ALL = {"tenant-suspended", "held", "paused", "engine-paused", "no-worker"}


@pytest.mark.parametrize("name", CASES)
def test_every_place_says_the_same_of_a_message(world: World, name: str, alice: Client) -> None:
    make_it, code, part, is_known = CASES[name]
    make_it(world)
    forget_pause()
    address = f"/developers/messages/{world.message.public_id}"
    shown = make.api(world.cast.acme).get(f"/api/v1/messages/{world.message.public_id}").json()
    page = html.unescape(alice.get(address).content.decode())
    told = terminal(world.message.public_id)
    cause = shown["waiting"]["causes"][0]
    assert (cause["code"], part in cause["text"]) == (code, True), cause
    assert cause["text"] in page
    assert cause["text"] in told
    assert shown["explanation"] in told
    next_at = shown["waiting"]["next_attempt_at"]
    assert (next_at is not None) == is_known
    if is_known and code not in ("next", "lease-ended"):
        when = dt.datetime.fromisoformat(next_at)
        assert f'datetime="{when:%Y-%m-%dT%H:%M:%S}' in page
        assert when.strftime("%Y-%m-%d %H:%M:%S UTC") in told
    assert "It would wait without this, too" not in page, "waiting for its turn is no reason more"
    assert len(shown["waiting"]["causes"]) == 1


@pytest.mark.parametrize("name", CASES)
def test_every_place_says_the_same_of_a_campaign(world: World, name: str, alice: Client) -> None:
    make_it, code, part, is_known = CASES[name]
    make_it(world)
    forget_pause()
    campaign = make.campaign(world.cast.acme, status="sending", batch=world.batch)
    shown = make.api(world.cast.acme).get(f"/api/v1/batches/{world.batch.public_id}/waiting").json()
    address = f"/campaigns/{campaign.public_id}/waiting/"
    page = html.unescape(alice.get(address).content.decode())
    told = terminal(world.batch.public_id)
    group = shown["groups"][0]
    assert (group["cause"]["code"], group["count"]) == (code, 1)
    assert part in group["cause"]["text"] or code in ("next", "scheduled")
    assert re.sub(r"\s+", " ", group["cause"]["text"]) in re.sub(r"\s+", " ", page)
    assert f"1: {group['cause']['text']}" in told
    assert len(shown["groups"]) == 1
    assert page.count('data-label="Reason"') == 1, "waiting for their turn is no reason more"
    assert (group["next_attempt_at"] is not None) == is_known


def terminal(public_id: str) -> str:
    out = io.StringIO()
    call_command("why", public_id, stdout=out)
    return out.getvalue()


def test_what_ends_later_than_the_queue_says_moves_the_next_try(world: World) -> None:
    held_campaign(world)
    greylisting(world)
    shown = make.api(world.cast.acme).get(f"/api/v1/messages/{world.message.public_id}").json()
    causes = shown["waiting"]["causes"]
    assert [one["code"] for one in causes] == ["held", "receiver"]
    assert shown["waiting"]["next_attempt_at"] == causes[0]["until"]


def test_a_message_that_is_given_up_before_has_no_next_try(world: World, alice: Client) -> None:
    suspended_lane(world)
    soon = timezone.now() + HOUR / 2
    Message.unscoped.update(expires_at=soon)
    QueueEntry.objects.update(expires_at=soon)
    acme = make.api(world.cast.acme)
    shown = acme.get(f"/api/v1/messages/{world.message.public_id}").json()["waiting"]
    assert (shown["next_attempt_at"], shown["is_too_late"]) == (None, True)
    page = alice.get(f"/developers/messages/{world.message.public_id}").content.decode()
    assert "The message is given up before, at" in page
    assert "is given up before, at" in terminal(world.message.public_id)
    (group,) = acme.get(f"/api/v1/batches/{world.batch.public_id}/waiting").json()["groups"]
    assert (group["next_attempt_at"], group["is_too_late"]) == (None, True)
    assert "They are given up before." in terminal(world.batch.public_id)


def test_a_lane_says_why_it_rests_and_what_waits_in_it(world: World) -> None:
    suspended_lane(world)
    told = terminal(LaneState.objects.get().public_id)
    assert f"{SITE} from unbound: suspended" in told
    assert "It asked for a rest. Until " in told
    assert "1 (suspended). For example: Mail from 192.0.2.1" in told


def test_a_lane_says_that_nothing_waits(world: World) -> None:
    lane = LaneState.objects.create(source_id="", site="google")
    assert "Nothing waits here." in terminal(lane.public_id)
