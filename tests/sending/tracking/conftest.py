"""A delivered message of Acme's with links, and the addresses that stand in it."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from esp.kit.keys import signing_key
from esp.lib.tokens import TrackKind, TrackToken
from sending.audience.models import ContactList, Subscription, Suppression
from sending.content.compiler import compile_content
from sending.content.types import ContentSource
from sending.events.models import Event, StatBucket
from sending.messages.models import Message
from tests import make
from tests.cast import Cast

READER = "reader@bigmail.test"
PERSON = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
BODY = """<html><body><p>Hello {{ first_name | default: "you" }}</p>
<a href="https://acme.example/shop?who={{ contact.code | url_encode }}">Shop</a>
<a href="{{ contact.home }}">Home</a> <a href="{{ unsubscribe_url }}">Leave</a></body></html>"""
LETTERS = {
    TrackKind.OPEN: "o",
    TrackKind.CLICK: "c",
    TrackKind.UNSUBSCRIBE: "u",
    TrackKind.PREFERENCES: "p",
    TrackKind.VIEW: "v",
}


@dataclass
class Mail:
    """A message with all that hangs on it."""

    message: Message
    news: ContactList
    offers: ContactList

    def token(self, kind: TrackKind, link: int = 0) -> str:
        token = TrackToken(self.message.tenant_id, self.message.pk, kind, link)
        return token.pack(signing_key("tracking"))

    def path(self, kind: TrackKind, link: int = 0) -> str:
        return f"/t/{LETTERS[kind]}/{self.token(kind, link)}"

    def events(self) -> list[tuple[str, bool]]:
        rows = Event.unscoped.filter(message_id=self.message.pk).order_by("id")
        return [(row.kind, row.is_machine) for row in rows]

    def count(self, kind: str) -> int:
        rows = StatBucket.unscoped.filter(batch_id=self.message.batch_id, kind=kind)
        return sum(row.count for row in rows)

    def refresh(self) -> Message:
        return Message.unscoped.get(pk=self.message.pk)

    def subscriptions(self) -> dict[str, str]:
        rows = Subscription.unscoped.filter(contact_id=self.message.contact_id)
        return {row.contact_list.name: row.status for row in rows.select_related("contact_list")}

    def suppressions(self) -> list[tuple[str, str]]:
        return [(row.email_norm, row.scope) for row in Suppression.unscoped.all()]


def make_mail(cast: Cast, *, is_contact: bool = True, body: str = BODY, **fields: Any) -> Mail:
    """Return a message that was delivered an hour ago."""
    domain = make.domain(cast.acme)
    news, offers = (make.contact_list(cast.acme, name) for name in ("News", "Offers"))
    contact = make.contact(cast.acme, READER)
    for contact_list in (news, offers):
        make.subscription(contact, contact_list)
    source = ContentSource(kind="html", body=body, subject="News")
    content = make.message_content(
        domain,
        compiled=json.loads(compile_content(source, footer=True).to_json()),
        list_ids=[news.pk] if is_contact else [],
    )
    values: dict[str, Any] = {
        "contact_id": contact.pk if is_contact else None,
        "status": "delivered",
        "final_at": timezone.now() - dt.timedelta(hours=1),
        "site": "bigmail.test",
        "variables": {"first_name": "Ada", "code": "a b&c", "home": "https://ada.example/"},
        **fields,
    }
    return Mail(make.message(make.batch(cast.acme), content, READER, **values), news, offers)


@pytest.fixture
def sent(cast: Cast) -> Mail:
    """A message to a contact on two lists; it went to the first."""
    return make_mail(cast)


@pytest.fixture
def reader(db: None) -> Client:
    """The reader's browser; it checks CSRF as a real server does."""
    return Client(enforce_csrf_checks=True, headers=PERSON)
