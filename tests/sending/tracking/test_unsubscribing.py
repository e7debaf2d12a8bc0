"""Leaving: by one click, by the page, list by list; each once, and never by looking."""

from __future__ import annotations

import threading

import pytest
from django.db import connection
from django.test import Client

from esp.lib.tokens import TrackKind
from tests.cast import Cast, make_cast
from tests.sending.tracking.conftest import READER, Mail, make_mail

ONE_CLICK = {"List-Unsubscribe": "One-Click"}


def test_looking_changes_nothing(reader: Client, sent: Mail) -> None:
    for kind in (TrackKind.UNSUBSCRIBE, TrackKind.PREFERENCES):
        page = reader.get(sent.path(kind))
        assert page.status_code == 200
        assert READER in page.text
        assert "Acme" in page.text
        assert reader.head(sent.path(kind)).status_code == 200
    assert set(sent.subscriptions().values()) == {"subscribed"}
    assert sent.events() == []


def test_one_click_works_without_cookies_and_twice_is_once(reader: Client, sent: Mail) -> None:
    for _ in range(2):
        answer = reader.post(sent.path(TrackKind.UNSUBSCRIBE), ONE_CLICK)
        assert answer.status_code == 200
        assert "Set-Cookie" not in answer
    assert sent.subscriptions() == {"News": "unsubscribed", "Offers": "subscribed"}
    assert sent.events() == [("unsubscribed", False)]
    assert sent.count("unsubscribed") == 1
    assert sent.suppressions() == []


def test_one_click_as_a_form_of_several_parts_works(reader: Client, sent: Mail) -> None:
    """RFC 8058 section 3.2 allows multipart/form-data as well."""
    part = b'Content-Disposition: form-data; name="List-Unsubscribe"'
    body = b"--x\r\n" + part + b"\r\n\r\nOne-Click\r\n--x--\r\n"
    answer = reader.post(
        sent.path(TrackKind.UNSUBSCRIBE), body, content_type="multipart/form-data; boundary=x"
    )
    assert answer.status_code == 200
    assert sent.subscriptions()["News"] == "unsubscribed"


def test_the_pages_button_leaves_the_list(reader: Client, sent: Mail) -> None:
    answer = reader.post(sent.path(TrackKind.UNSUBSCRIBE), {"scope": "lists"})
    assert "You are unsubscribed" in answer.text
    assert sent.subscriptions() == {"News": "unsubscribed", "Offers": "subscribed"}


def test_the_other_button_leaves_all_marketing(reader: Client, sent: Mail) -> None:
    reader.post(sent.path(TrackKind.UNSUBSCRIBE), {"scope": "all"})
    assert sent.suppressions() == [(READER, "broadcast")]


def test_who_is_no_contact_is_suppressed_for_marketing(cast: Cast) -> None:
    sent = make_mail(cast, is_contact=False)
    for _ in range(2):
        Client().post(sent.path(TrackKind.UNSUBSCRIBE), ONE_CLICK)
    assert sent.suppressions() == [(READER, "broadcast")]
    assert sent.events() == [("unsubscribed", False)]


def test_preferences_keep_what_is_ticked(reader: Client, sent: Mail) -> None:
    path = sent.path(TrackKind.PREFERENCES)
    page = reader.get(path).text
    assert "News" in page
    assert "Offers" in page
    answer = reader.post(path, {"scope": "lists", "lists": [str(sent.offers.pk), "forged"]})
    assert "Your choice is saved." in answer.text
    assert sent.subscriptions() == {"News": "unsubscribed", "Offers": "subscribed"}


def test_preferences_cannot_join_a_list(reader: Client, sent: Mail) -> None:
    path = sent.path(TrackKind.PREFERENCES)
    reader.post(path, {"scope": "lists"})
    both = {"scope": "lists", "lists": [str(sent.news.pk), str(sent.offers.pk)]}
    reader.post(path, both)
    assert set(sent.subscriptions().values()) == {"unsubscribed"}


def test_preferences_may_leave_everything(reader: Client, sent: Mail) -> None:
    reader.post(sent.path(TrackKind.PREFERENCES), {"scope": "all"})
    assert sent.suppressions() == [(READER, "broadcast")]


def test_the_mail_as_a_page_can_run_nothing(reader: Client, sent: Mail) -> None:
    answer = reader.get(sent.path(TrackKind.VIEW))
    assert answer.status_code == 200
    policy = answer["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    assert "allow-scripts" not in policy
    assert "allow-same-origin" not in policy
    assert "Hello Ada" in answer.text
    assert "/t/u/" in answer.text
    assert "/t/o/" not in answer.text
    assert sent.events() == []


def test_a_broken_body_is_no_error_of_ours(reader: Client, sent: Mail) -> None:
    for kind in (TrackKind.UNSUBSCRIBE, TrackKind.PREFERENCES):
        for content_type in ("multipart/form-data", "multipart/form-data; boundary=y", "text/x"):
            answer = reader.post(sent.path(kind), b"\x00\xff--", content_type=content_type)
            assert answer.status_code < 500, content_type


@pytest.mark.django_db(transaction=True)
def test_one_click_sent_by_many_at_once_is_one_event() -> None:
    sent = make_mail(make_cast())
    barrier = threading.Barrier(8)

    def press() -> None:
        try:
            barrier.wait(timeout=30)
            assert Client().post(sent.path(TrackKind.UNSUBSCRIBE), ONE_CLICK).status_code == 200
        finally:
            connection.close()

    threads = [threading.Thread(target=press) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sent.events() == [("unsubscribed", False)]
    assert sent.subscriptions()["News"] == "unsubscribed"
