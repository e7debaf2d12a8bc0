"""Operators' alerts: one open row a cause, counted, closed, and seen by operators alone."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from deliverability.alerts.models import Alert
from deliverability.alerts.selectors import alert_count, open_alerts
from deliverability.alerts.services import (
    close_alert,
    close_unseen,
    raise_alert,
    record_remembered,
    remembered,
    settle_alert,
)
from esp.kit.valkey import client

pytestmark = pytest.mark.django_db


def down(subject: str = "", title: str = "Valkey does not answer.") -> bool:
    return raise_alert(code="valkey-down", subject=subject, severity="critical", title=title)


def test_an_alert_that_goes_on_is_one_row_that_counts() -> None:
    assert down()
    assert not down(title="Valkey has been away for a minute.")
    (alert,) = open_alerts()
    assert (alert.count, alert.title) == (2, "Valkey has been away for a minute.")
    assert alert.seen_at > alert.opened_at


def test_subjects_of_one_code_are_alerts_of_their_own() -> None:
    assert down("one")
    assert down("two")
    assert {alert.subject for alert in open_alerts()} == {"one", "two"}


def test_a_closed_alert_is_history_and_its_return_is_a_new_one() -> None:
    down()
    assert close_alert(code="valkey-down")
    assert not close_alert(code="valkey-down")
    assert open_alerts() == []
    assert down()
    assert Alert.objects.count() == 2


def test_a_check_settles_its_alert_both_ways() -> None:
    for is_on in (True, True, False):
        settle_alert(is_on=is_on, code="dns-down", severity="warning", title="No name server.")
    (alert,) = Alert.objects.all()
    assert alert.count == 2
    assert alert.closed_at is not None


def test_alerts_about_events_close_when_none_has_come_for_a_while() -> None:
    down("old")
    Alert.objects.update(seen_at=timezone.now() - dt.timedelta(minutes=10))
    down("fresh")
    assert close_unseen(code="valkey-down", seconds=300) == 1
    assert [alert.subject for alert in open_alerts()] == ["fresh"]


def test_an_alert_that_the_database_refuses_is_kept_in_valkey_and_recorded_later() -> None:
    client().delete("mw:alerts:remembered")
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL transaction_read_only = on")
        assert not down()
        assert not down()
        # The transaction of the caller goes on.
        assert open_alerts() == []
        transaction.set_rollback(True)
    (kept,) = remembered()
    assert (kept["code"], kept["count"]) == ("valkey-down", 2)
    assert record_remembered() == 1
    (alert,) = open_alerts()
    assert alert.count == 2
    assert alert.opened_at == dt.datetime.fromisoformat(kept["opened_at"])
    assert remembered() == []
    assert json.dumps(kept)


def test_critical_alerts_come_first() -> None:
    down()
    raise_alert(code="lane-suspended", subject="x", severity="warning", title="A lane rests.")
    count = alert_count()
    assert (count.total, count.critical) == (2, 1)
    assert count.title == "Valkey does not answer."


def test_an_operator_reads_open_and_past_alerts(operator: Client) -> None:
    down("one", title="Alpha <b>is</b> wrong.")
    down("two", title="Beta is over.")
    close_alert(code="valkey-down", subject="two")
    page = operator.get("/operator/alerts/").content.decode()
    assert "Alpha &lt;b&gt;is&lt;/b&gt; wrong." in page
    assert page.index("Alpha") < page.index("Beta is over.")
    live = operator.get("/operator/alerts/", headers={"HX-Request": "true"}).content.decode()
    assert "Alpha" in live
    assert "<html" not in live
    assert "Beta" not in live


def test_the_banner_speaks_only_while_something_is_wrong(operator: Client) -> None:
    assert operator.get("/operator/alerts/banner").content.decode().strip() == ""
    down()
    banner = operator.get("/operator/alerts/banner").content.decode()
    assert "Valkey does not answer." in banner
    assert "/operator/alerts/banner" in operator.get("/operator/ips/").content.decode()


def test_no_member_sees_alerts(alice: Client) -> None:
    down()
    for path in ("/operator/alerts/", "/operator/alerts/banner"):
        assert alice.get(path).status_code == 404
    assert "alerts/banner" not in alice.get("/audience/contacts/").content.decode()


def test_a_forged_page_link_is_refused(operator: Client) -> None:
    assert operator.get("/operator/alerts/?after=nonsense!").status_code == 422
