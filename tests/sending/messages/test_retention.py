"""Old months are dropped whole, and nothing that is still needed with them."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import uuid

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone
from pytest_django.fixtures import Settings

from deliverability.domains.models import Domain
from esp.kit.partitions import ensure_partitions
from esp.lib.ids import lower_bound
from esp.stack.assets import ROOT
from sending.messages import tasks
from sending.messages.models import Message, MessageContent, QueueEntry
from tests import make
from tests.cast import Cast

OLD = dt.datetime(2021, 3, 10, tzinfo=dt.UTC)
OLD_TABLES = {f"sending_{table}_2021_03" for table in ("message", "event", "attempt")}


def id_at(moment: dt.datetime) -> uuid.UUID:
    return uuid.UUID(int=lower_bound(moment).int | uuid.uuid4().int >> 66)


def tables() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE relkind IN ('r', 'p')")
        return {name for (name,) in cursor.fetchall()}


def drop(parent: str, part: str, days: int) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT drop_partition(%s, %s, %s)", [parent, part, days])


@pytest.fixture
def old(cast: Cast, acme_domain: Domain, settings: Settings) -> Message:
    """A message of March 2021, in the partition of that month; a year is kept."""
    ensure_partitions(OLD.date(), ahead=0)
    settings.MESSAGE_RETENTION_DAYS = 365
    content = make.message_content(acme_domain, id=id_at(OLD - dt.timedelta(seconds=1)))
    return make.message(
        make.batch(cast.acme, kind="api"), content, id=id_at(OLD), created_at=OLD, expires_at=OLD
    )


def wait(message: Message) -> None:
    QueueEntry.objects.create(
        message_id=message.pk,
        tenant_id=message.tenant_id,
        batch_id=message.batch_id,
        domain="bigmail.test",
        due_at=timezone.now(),
        expires_at=timezone.now(),
    )


def test_an_old_month_is_dropped_and_a_young_one_is_kept(old: Message, acme_domain: Domain) -> None:
    young = make.message(old.batch, make.message_content(acme_domain))
    before = tables()
    tasks.forget_old()
    assert before - tables() == OLD_TABLES
    assert list(Message.unscoped.all()) == [young]
    tasks.forget_old()
    assert before - tables() == OLD_TABLES


def test_contents_go_with_their_messages_and_campaigns_keep_theirs(
    old: Message, cast: Cast, acme_domain: Domain
) -> None:
    campaigns = make.message_content(acme_domain, id=id_at(OLD))
    make.campaign(cast.acme, content=campaigns, batch=make.batch(cast.acme))
    young = make.message(old.batch, make.message_content(acme_domain))
    tasks.forget_old()
    assert set(MessageContent.unscoped.all()) == {campaigns, young.content}


def test_contents_stay_while_an_older_message_is_kept(old: Message, acme_domain: Domain) -> None:
    wait(old)
    later = make.message_content(acme_domain, id=id_at(OLD + dt.timedelta(days=40)))
    tasks.forget_old()
    assert set(MessageContent.unscoped.all()) == {old.content, later}


def test_a_waiting_message_keeps_its_month(old: Message) -> None:
    wait(old)
    tasks.forget_old()
    assert tables() >= OLD_TABLES
    QueueEntry.objects.all().delete()
    tasks.forget_old()
    assert not tables() & OLD_TABLES


def test_a_waiting_message_keeps_later_events_and_not_later_messages(old: Message) -> None:
    ensure_partitions(dt.date(2021, 4, 1), ahead=0)
    wait(old)
    tasks.forget_old()
    assert tables() >= {*OLD_TABLES, "sending_event_2021_04", "sending_attempt_2021_04"}
    assert "sending_message_2021_04" not in tables()


def test_by_default_nothing_is_dropped(old: Message, settings: Settings) -> None:
    settings.MESSAGE_RETENTION_DAYS = 0
    tasks.forget_old()
    assert tables() >= OLD_TABLES
    assert Message.unscoped.filter(pk=old.pk).exists()


def test_a_month_goes_only_when_its_last_day_is_past(old: Message) -> None:
    last = dt.datetime(2021, 4, 1, tzinfo=dt.UTC)
    days = (timezone.now() - last).days
    with pytest.raises(DatabaseError, match="not wholly past"):
        drop("sending_message", "sending_message_2021_03", days + 1)
    drop("sending_message", "sending_message_2021_03", days)
    assert "sending_message_2021_03" not in tables()


@pytest.mark.parametrize(
    ("parent", "part", "days", "why"),
    [
        ("tenants_user", "tenants_user", 400, "is not partitioned"),
        ("sending_message", "tenants_user", 400, "is no month of"),
        ("sending_message", "sending_message_default", 400, "is no month of"),
        ("sending_message", "sending_event_2021_03", 400, "is no month of"),
        ("sending_message", "sending_message_2021_03; DROP TABLE x", 400, "is no month of"),
        ("sending_message", "sending_message_2021_03", 0, "for 30 days at least"),
    ],
)
def test_it_drops_nothing_but_old_months(
    old: Message, parent: str, part: str, days: int, why: str
) -> None:
    before = tables()
    with pytest.raises(DatabaseError, match=why):
        drop(parent, part, days)
    assert tables() == before


@pytest.mark.django_db
def test_the_webs_role_drops_no_tables() -> None:
    sql = "SELECT has_function_privilege(%s, 'drop_partition(text,text,integer)', 'execute')"
    with connection.cursor() as cursor:
        cursor.execute(sql, ["mailwright_app"])
        assert cursor.fetchone() == (False,)
        cursor.execute(sql, ["mailwright_worker"])
        assert cursor.fetchone() == (True,)


def test_a_retention_too_short_for_unsubscribing_stops_the_start() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "check"],
        env={**os.environ, "MESSAGE_RETENTION_DAYS": "7"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "MESSAGE_RETENTION_DAYS must be 0 (for ever) or at least 30" in done.stderr
