"""Pixels and links: what is counted once, what is a machine's, where a click leads."""

from __future__ import annotations

import threading

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from esp.lib.tokens import TrackKind
from sending.audience.models import Contact
from sending.events.models import LinkStat
from sending.messages.models import Message
from tests.cast import Cast, make_cast
from tests.sending.tracking.conftest import PERSON, Mail, make_mail


def test_an_open_is_an_event_each_time_and_unique_once(reader: Client, sent: Mail) -> None:
    for _ in range(3):
        answer = reader.get(sent.path(TrackKind.OPEN) + ".gif")
        assert answer.content.startswith(b"GIF89a")
        assert "no-store" in answer["Cache-Control"]
    assert sent.events() == [("opened", False)] * 3
    assert (sent.count("opened"), sent.count("opened_unique")) == (3, 1)
    assert sent.refresh().opened_at is not None


@pytest.mark.parametrize(
    "agent", ["", "Mozilla/5.0", "curl/8.14", "Barracuda Sentinel", "Mozilla/5.0 Googlebot/2.1"]
)
def test_a_machines_open_is_counted_apart(reader: Client, sent: Mail, agent: str) -> None:
    reader.get(sent.path(TrackKind.OPEN), headers={"User-Agent": agent})
    assert sent.events() == [("opened", True)]
    assert (sent.count("opened_unique"), sent.count("machine_opened_unique")) == (0, 1)
    message = sent.refresh()
    assert message.opened_at is None
    assert message.machine_opened_at is not None


def test_a_proxy_that_fetches_when_the_mail_is_opened_is_a_person(
    reader: Client, sent: Mail
) -> None:
    agent = (
        "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
    )
    reader.get(sent.path(TrackKind.OPEN), headers={"User-Agent": agent})
    assert sent.events() == [("opened", False)]


@pytest.mark.parametrize("kind", [TrackKind.OPEN, TrackKind.CLICK])
def test_who_reads_is_known_as_engaged_and_a_machine_is_not(
    reader: Client, sent: Mail, kind: TrackKind
) -> None:
    contact = Contact.unscoped.get(pk=sent.message.contact_id)
    reader.head(sent.path(kind))
    contact.refresh_from_db()
    assert contact.engaged_at is None
    reader.get(sent.path(kind))
    contact.refresh_from_db()
    first = contact.engaged_at
    assert first is not None
    reader.get(sent.path(kind))
    contact.refresh_from_db()
    assert contact.engaged_at == first, "within the hour nothing is written"


def test_head_is_a_machine(reader: Client, sent: Mail) -> None:
    assert reader.head(sent.path(TrackKind.OPEN)).status_code == 200
    assert reader.head(sent.path(TrackKind.CLICK)).status_code == 302
    assert sent.events() == [("opened", True), ("clicked", True)]
    assert sent.count("clicked_unique") == 0


def test_what_comes_too_soon_is_a_machine(reader: Client, sent: Mail) -> None:
    Message.unscoped.filter(pk=sent.message.pk).update(final_at=timezone.now())
    reader.get(sent.path(TrackKind.CLICK))
    assert sent.events() == [("clicked", True)]


def test_a_click_leads_where_the_content_says_and_counts_as_an_open(
    reader: Client, sent: Mail
) -> None:
    for _ in range(2):
        answer = reader.get(sent.path(TrackKind.CLICK))
        assert answer.status_code == 302
        assert answer["Location"] == "https://acme.example/shop?who=a+b%26c"
    assert sent.events() == [("clicked", False)] * 2
    assert (sent.count("clicked_unique"), sent.count("opened_unique")) == (1, 1)
    row = LinkStat.unscoped.get()
    assert (row.clicks, row.unique_clicks, row.link_index) == (2, 1, 0)
    assert "{{ contact.code" in row.url  # one line of the report for all recipients


@pytest.mark.parametrize(
    "query",
    ["?url=https://evil.example/", "?next=//evil.example", "?link=1&u=https://evil.example"],
)
def test_parameters_lead_nowhere_else(reader: Client, sent: Mail, query: str) -> None:
    answer = reader.get(sent.path(TrackKind.CLICK) + query)
    assert answer["Location"] == "https://acme.example/shop?who=a+b%26c"


@pytest.mark.parametrize(
    "home",
    ["javascript:alert(1)", "data:text/html,x", "//evil.example", "", "https://a.example/\r\nX: y",
     "no address", "file:///etc/passwd"],
)  # fmt: skip
def test_a_link_that_a_contact_spoilt_leads_nowhere(cast: Cast, home: str) -> None:
    sent = make_mail(cast, variables={"home": home, "code": "x"})
    answer = Client(headers=PERSON).get(sent.path(TrackKind.CLICK, 1))
    if answer.status_code == 302:  # cleaned: a header of its own it never gets
        assert answer["Location"].startswith("https://a.example/")
        assert "X" not in answer.headers
    else:
        assert answer.status_code == 404


def test_a_link_that_is_not_in_the_content_leads_nowhere(reader: Client, sent: Mail) -> None:
    assert reader.get(sent.path(TrackKind.CLICK, 77)).status_code == 404


def test_other_methods_are_refused(reader: Client, sent: Mail) -> None:
    for kind in (TrackKind.OPEN, TrackKind.CLICK, TrackKind.VIEW):
        assert Client().post(sent.path(kind)).status_code == 405
    assert sent.events() == []


@pytest.mark.django_db(transaction=True)
def test_twenty_opens_at_once_count_one_reader() -> None:
    sent = make_mail(make_cast())
    barrier = threading.Barrier(20)
    codes: list[int] = []

    def fetch() -> None:
        try:
            barrier.wait(timeout=30)
            client = Client(headers=PERSON)
            codes.append(client.get(sent.path(TrackKind.OPEN)).status_code)
            codes.append(client.get(sent.path(TrackKind.CLICK)).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=fetch) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(codes) == [200] * 20 + [302] * 20
    assert (sent.count("opened"), sent.count("clicked")) == (20, 20)
    assert (sent.count("opened_unique"), sent.count("clicked_unique")) == (1, 1)
    row = LinkStat.unscoped.get()
    assert (row.clicks, row.unique_clicks) == (20, 1)
