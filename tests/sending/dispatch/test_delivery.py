"""From the queue to the simulated mailboxes and back into the database."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Sequence
from typing import Any

import dkim
import dns.resolver
from django.conf import settings
from django.utils import timezone

from esp.lib.dns import make_resolver
from sending.audience.models import Suppression
from sending.content.compiler import compile_content
from sending.content.types import ContentSource
from sending.dispatch import claims, results
from sending.dispatch.worker import DeliveryWorker, mx_settings, schedule_for
from sending.engine.ports import Outcome
from sending.events.models import Attempt, Event, StatBucket
from sending.messages.models import Batch, Message, MessageContent, QueueEntry
from tests import make
from tests.sending.dispatch.conftest import World

_HTML = (
    '<h1>Hello {{ first_name | default: "there" }}</h1>'
    '<p><a href="https://acme.example/spring?who={{ first_name | url_encode }}">See it</a></p>'
)


def make_content(world: World) -> MessageContent:
    compiled = compile_content(
        ContentSource(kind="html", body=_HTML, subject="Spring for {{ first_name }}"), footer=True
    )
    return make.message_content(
        world.domain,
        from_name="Acme",
        from_email="news@acme.example",
        compiled=json.loads(compiled.to_json()),
        track_opens=True,
        track_clicks=True,
    )


def queue(world: World, recipients: Sequence[str], **fields: object) -> Batch:
    batch = make.batch(world.cast.acme)
    content = make_content(world)
    now = timezone.now()
    for recipient in recipients:
        variables = {"first_name": "Ada", "email": recipient}
        message = make.message(batch, content, recipient, variables=variables, **fields)
        QueueEntry.objects.create(
            message_id=message.pk,
            tenant_id=batch.tenant_id,
            batch_id=batch.pk,
            domain=recipient.rpartition("@")[2],
            due_at=now,
            expires_at=message.expires_at,
        )
    return batch


def run_until_empty(worker: DeliveryWorker, batch: Batch, *, seconds: float = 12.0) -> None:
    end = time.monotonic() + seconds
    while QueueEntry.objects.filter(batch_id=batch.pk).exists():
        assert time.monotonic() < end, list(QueueEntry.objects.values_list("reason", "attempts"))
        worker.run_slice(seconds=2.0)
        time.sleep(0.2)


def statuses(batch: Batch) -> dict[str, str]:
    return dict(Message.unscoped.filter(batch=batch).values_list("recipient", "status"))


def test_it_delivers_defers_and_bounces_as_the_mailboxes_say(
    world: World, worker: DeliveryWorker
) -> None:
    batch = queue(
        world,
        [
            "ada@plainmail.test",
            "ada@bigmail.test",
            "ada@strictmail.test",
            "ada@greymail.test",
            "bounce@plainmail.test",
            "block@bigmail.test",
            "ada@nullmx.test",
            "ada@nowhere.test",
        ],
    )
    run_until_empty(worker, batch)
    assert statuses(batch) == {
        "ada@plainmail.test": "delivered",
        "ada@bigmail.test": "delivered",
        "ada@strictmail.test": "delivered",
        "ada@greymail.test": "delivered",
        "bounce@plainmail.test": "bounced",
        "block@bigmail.test": "bounced",
        "ada@nullmx.test": "bounced",
        "ada@nowhere.test": "bounced",
    }
    held = {fact.recipient for fact in world.client.ledger(kinds=["delivered"])}
    assert held == {name for name, status in statuses(batch).items() if status == "delivered"}
    # The greylisted one was tried twice at least, and each attempt stands on record.
    greylisted = Message.unscoped.get(batch=batch, recipient="ada@greymail.test")
    attempts = Attempt.unscoped.filter(message_id=greylisted.pk).order_by("number")
    assert [attempt.outcome for attempt in attempts][-1] == "delivered"
    assert attempts[0].outcome == "deferred"
    assert attempts[0].smtp_code == 451
    assert greylisted.attempts == len(attempts)
    assert {b.kind: b.count for b in StatBucket.unscoped.filter(kind="delivered")}
    total = sum(StatBucket.unscoped.filter(kind="delivered").values_list("count", flat=True))
    assert total == 4


def test_a_hard_bounce_is_suppressed_and_a_block_is_not(
    world: World, worker: DeliveryWorker
) -> None:
    batch = queue(world, ["bounce@plainmail.test", "block@bigmail.test"])
    run_until_empty(worker, batch)
    suppressed = Suppression.unscoped.filter(tenant=world.cast.acme)
    assert [row.email_norm for row in suppressed] == ["bounce@plainmail.test"]
    assert suppressed[0].reason == "bounce"
    block = Message.unscoped.get(recipient="block@bigmail.test")
    assert block.bounce_class.startswith("block/")
    assert "5.7.1" in block.last_reply


def test_the_signatures_verify_with_another_implementation(
    world: World, worker: DeliveryWorker
) -> None:
    batch = queue(world, ["ada@strictmail.test"])
    run_until_empty(worker, batch)
    stored = world.client.message(world.client.messages("ada@strictmail.test")[0].id)
    resolver = make_resolver(settings.DNS_RESOLVERS)

    def txt(name: bytes, timeout: int = 5) -> bytes:
        answer = resolver.resolve(name.decode(), "TXT")
        return b"".join(answer[0].strings)

    verifier = dkim.DKIM(stored.raw)
    signatures = [value for name, value in stored.headers if name.lower() == "dkim-signature"]
    assert len(signatures) == 2
    assert verifier.verify(idx=0, dnsfunc=txt)
    assert verifier.verify(idx=1, dnsfunc=txt)
    assert stored.summary.authentication is not None
    assert stored.summary.authentication["dmarc"] == "pass"


def test_the_message_carries_what_receivers_demand(world: World, worker: DeliveryWorker) -> None:
    world.cast.acme.postal_address = "1 Main Street, Springfield"
    world.cast.acme.save()
    batch = queue(world, ["ada@plainmail.test"])
    run_until_empty(worker, batch)
    stored = world.client.message(world.client.messages("ada@plainmail.test")[0].id)
    headers = {name.lower(): value for name, value in stored.headers}
    assert headers["subject"] == "Spring for Ada"
    assert headers["list-unsubscribe-post"].strip() == "List-Unsubscribe=One-Click"
    assert f"{settings.SITE_URL}/t/u/" in headers["list-unsubscribe"]
    assert "mailto:u." in headers["list-unsubscribe"]
    assert headers["feedback-id"].endswith(":broadcast:mailwright")
    assert stored.summary.mail_from.endswith("@bounce.acme.example")
    assert stored.html is not None
    assert "Hello Ada" in stored.html
    assert "1 Main Street" in stored.html
    assert "/t/o/" in stored.html
    assert "/t/c/" in stored.html
    assert "https://acme.example/spring" not in stored.html
    assert stored.text is not None
    assert "Hello Ada" in stored.text


def test_a_lease_that_ran_out_is_claimed_again(world: World, worker: DeliveryWorker) -> None:
    batch = queue(world, ["ada@plainmail.test"])
    now = timezone.now()
    lease = dt.timedelta(seconds=60)
    dead = {"stream": "broadcast", "limit": 10, "lease": lease}
    assert len(claims.claim(worker="dead", now=now, **dead)) == 1
    assert claims.claim(worker="other", now=now, **dead) == []
    later = now + dt.timedelta(seconds=61)
    assert len(claims.claim(worker="other", now=later, **dead)) == 1
    entry = QueueEntry.objects.get(batch_id=batch.pk)
    assert entry.worker == "other"


def test_a_lease_is_renewed_by_its_holder_only(world: World) -> None:
    queue(world, ["ada@plainmail.test"])
    now = timezone.now()
    ask: dict[str, Any] = {"stream": "broadcast", "limit": 5, "lease": dt.timedelta(seconds=60)}
    (job,) = claims.claim(worker="holder", now=now, **ask)
    after = now + dt.timedelta(seconds=90)
    claims.keep([job.message_id], worker="other", end=now + dt.timedelta(seconds=300))
    assert QueueEntry.objects.get().due_at == now + dt.timedelta(seconds=60)
    claims.keep([job.message_id], worker="holder", end=now + dt.timedelta(seconds=120))
    assert claims.claim(worker="other", now=after, **ask) == []
    assert len(claims.claim(worker="other", now=now + dt.timedelta(seconds=121), **ask)) == 1


def test_a_result_of_a_lost_lease_is_final_once(world: World, worker: DeliveryWorker) -> None:
    batch = queue(world, ["ada@plainmail.test"])
    jobs = claims.claim(
        stream="broadcast",
        limit=1,
        worker="slow",
        now=timezone.now(),
        lease=dt.timedelta(seconds=60),
    )
    outcome = Outcome("delivered", "body", "none/delivered", "250 ok", timezone.now())
    verdict = results.judge(jobs[0], outcome, schedule_for("broadcast"))
    results.record([verdict], worker="slow")
    results.record([verdict], worker="slow")
    assert statuses(batch) == {"ada@plainmail.test": "delivered"}
    assert Event.unscoped.filter(kind="delivered").count() == 1


def test_a_paused_batch_and_a_suspended_tenant_keep_their_mail(world: World) -> None:
    batch = queue(world, ["ada@plainmail.test"])
    ask = {
        "stream": "broadcast",
        "limit": 10,
        "worker": "w",
        "now": timezone.now(),
        "lease": dt.timedelta(seconds=60),
    }
    Batch.unscoped.filter(pk=batch.pk).update(status="paused")
    assert claims.claim(**ask) == []
    Batch.unscoped.filter(pk=batch.pk).update(status="running")
    world.cast.acme.status = "suspended"
    world.cast.acme.save()
    assert claims.claim(**ask) == []
    world.cast.acme.status = "active"
    world.cast.acme.save()
    assert len(claims.claim(**ask)) == 1


def test_an_address_that_was_suppressed_meanwhile_gets_nothing(
    world: World, worker: DeliveryWorker
) -> None:
    batch = queue(world, ["ada@plainmail.test"])
    make.suppression(world.cast.acme, "ada@plainmail.test", reason="complaint")
    run_until_empty(worker, batch)
    assert statuses(batch) == {"ada@plainmail.test": "dropped"}
    assert world.client.messages("ada@plainmail.test") == []


def test_mail_whose_life_is_over_expires_in_every_state(world: World) -> None:
    past = timezone.now() - dt.timedelta(seconds=1)
    batch = queue(world, ["ada@plainmail.test"], expires_at=past)
    Batch.unscoped.filter(pk=batch.pk).update(status="paused", created_at=past)
    early = timezone.now() - dt.timedelta(days=4)
    assert results.expire_overdue(now=early) == 0
    Batch.unscoped.filter(pk=batch.pk).update(created_at=early)
    assert results.expire_overdue(now=timezone.now()) == 1
    assert statuses(batch) == {"ada@plainmail.test": "expired"}
    assert not QueueEntry.objects.exists()


def test_two_tenants_get_equal_turns(world: World) -> None:
    first = queue(world, [f"a{n}@plainmail.test" for n in range(30)])
    globex = make.batch(world.cast.globex)
    domain = make.domain(world.cast.globex, "globex.example")
    content = make.message_content(domain)
    for number in range(3):
        message = make.message(globex, content, f"g{number}@plainmail.test")
        QueueEntry.objects.create(
            message_id=message.pk,
            tenant_id=globex.tenant_id,
            batch_id=globex.pk,
            domain="plainmail.test",
            due_at=timezone.now(),
            expires_at=message.expires_at,
        )
    jobs = claims.claim(
        stream="broadcast",
        limit=6,
        worker="w",
        now=timezone.now(),
        lease=dt.timedelta(seconds=60),
    )
    counts = {first.pk: 0, globex.pk: 0}
    for job in jobs:
        counts[job.batch_id] += 1
    assert counts == {first.pk: 3, globex.pk: 3}


def test_a_domain_that_is_not_verified_any_more_sends_nothing(
    world: World, worker: DeliveryWorker
) -> None:
    batch = queue(world, ["ada@plainmail.test"])
    world.domain.status = "failing"
    world.domain.save()
    run_until_empty(worker, batch)
    message = Message.unscoped.get(batch=batch)
    assert message.status == "bounced"
    assert "not verified any more" in message.last_reply


def test_dns_resolver_settings_reach_the_engine(world: World) -> None:
    found = mx_settings()
    assert found.port == int(settings.DNS_RESOLVERS[0].rsplit(":", 1)[1])
    assert found.nameservers == ("127.0.0.1",)
    assert isinstance(make_resolver(settings.DNS_RESOLVERS), dns.resolver.Resolver)
