"""A delivered message of Acme's, and ways to hand in mail about it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from deliverability.domains.models import Domain
from esp.kit.keys import signing_key
from esp.lib.ids import encode
from sending.audience.models import Contact, ContactList, Subscription, Suppression
from sending.engine import verp
from sending.events.models import Event
from sending.feedback.listener import InboundServer, Store
from sending.feedback.models import InboundMail
from sending.feedback.services import process_inbound, store_mail
from sending.messages.models import Message
from tests import make
from tests.cast import Cast

READER = "reader@bigmail.test"
FEEDBACK = "fbl@bounces.mailwright.test"


@dataclass
class Sent:
    """A message to the reader with all that hangs on it."""

    message: Message
    domain: Domain
    contact: Contact
    contact_list: ContactList
    inbound: list[InboundMail] = field(default_factory=list)

    @property
    def return_path(self) -> str:
        host = self.domain.return_path_domain
        return verp.return_path(self.message.pk, key=signing_key("verp"), domain=host)

    @property
    def unsubscribe(self) -> str:
        host = self.domain.return_path_domain
        return verp.unsubscribe_address(self.message.pk, key=signing_key("verp"), domain=host)

    @property
    def message_id(self) -> str:
        return f"{encode(self.message.pk)}@{self.domain.return_path_domain}"

    def receive(self, to: str, raw: bytes) -> InboundMail:
        """Store a mail and work it."""
        (pk,) = store_mail(mail_from="", recipients=[to], raw=raw)
        process_inbound(pk)
        mail = InboundMail.objects.get(pk=pk)
        self.inbound.append(mail)
        return mail

    def refresh(self) -> Message:
        self.message = Message.unscoped.get(pk=self.message.pk)
        return self.message

    def events(self) -> list[str]:
        rows = Event.unscoped.filter(message_id=self.message.pk).order_by("id")
        return [row.kind for row in rows]

    def suppressions(self) -> list[tuple[str, str, str]]:
        rows = Suppression.unscoped.filter(tenant_id=self.message.tenant_id)
        return [(row.email_norm, row.scope, row.reason) for row in rows]

    def subscription(self) -> str:
        return Subscription.unscoped.get(contact=self.contact).status


def make_sent(cast: Cast, *, status: str = "delivered") -> Sent:
    """Make a message of Acme's to the reader, who is on its list."""
    domain = make.domain(cast.acme, "acme.example")
    contact_list = make.contact_list(cast.acme)
    contact = make.contact(cast.acme, READER)
    make.subscription(contact, contact_list)
    content = make.message_content(domain, list_ids=[contact_list.pk])
    batch = make.batch(cast.acme)
    message = make.message(batch, content, READER, contact_id=contact.pk, status=status)
    return Sent(message, domain, contact, contact_list)


@pytest.fixture
def sent(cast: Cast) -> Sent:
    """A message that was delivered."""
    return make_sent(cast)


@contextmanager
def listening(store: Store, **options: Any) -> Iterator[InboundServer]:
    """Run a listener in a thread of its own, on a free port."""
    server = InboundServer(store, host="127.0.0.1", port=0, hostname="mx.test", **options)
    started, holder = threading.Event(), {}

    async def serve() -> None:
        ended = asyncio.Event()
        holder["end"] = (asyncio.get_running_loop(), ended)
        async with server:
            started.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert started.wait(10)
        yield server
    finally:
        loop, ended = holder["end"]
        loop.call_soon_threadsafe(ended.set)
        thread.join(15)
        assert not thread.is_alive()


@pytest.fixture
def listen() -> Callable[..., Any]:
    """The context manager that runs a listener."""
    return listening
