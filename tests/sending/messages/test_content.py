"""What is compiled when, and the system's own mail."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.conf import settings
from django.core.mail import EmailMultiAlternatives, send_mail

from esp.lib.addresses import parse_address
from sending.content.errors import ContentError
from sending.content.render import Renderer
from sending.content.types import ContentSource, RenderContext
from sending.messages.errors import SystemMailUnavailable
from sending.messages.models import Message, MessageContent
from sending.messages.selectors import pending_compile
from sending.messages.services import MAX_COMPILE_TRIES, ensure_compiled
from tenants.directory.models import Tenant
from tests import make
from tests.cast import Cast


def _content(cast: Cast, body: str, **more: Any) -> MessageContent:
    source = ContentSource(kind="html", body=body, subject="Hi {{ name }}")
    state = pending_compile(source, footer=False) | more
    return make.message_content(make.domain(cast.acme), compiled=state)


def test_content_is_compiled_once_and_kept(cast: Cast) -> None:
    content = _content(cast, "<p>Hello {{ name }}</p>")
    compiled = ensure_compiled(content.pk)
    content.refresh_from_db()
    assert "source" not in content.compiled
    assert ensure_compiled(content.pk) == compiled
    rendered = Renderer(compiled).render(RenderContext(variables={"name": "Ada"}))
    assert rendered.subject == "Hi Ada"
    assert "Hello Ada" in (rendered.html or "")


def test_content_that_cannot_be_compiled_says_why_every_time(cast: Cast) -> None:
    content = _content(cast, "<svg></svg>")
    for _ in range(2):
        with pytest.raises(ContentError, match="svg"):
            ensure_compiled(content.pk)


def test_content_that_kills_workers_is_given_up(cast: Cast) -> None:
    content = _content(cast, "<p>x</p>", tries=MAX_COMPILE_TRIES)
    with pytest.raises(ContentError, match="brought the compiler down"):
        ensure_compiled(content.pk)


@pytest.fixture
def system(db: None) -> Tenant:
    tenant = make.tenant("System", slug=settings.SYSTEM_TENANT_SLUG)
    make.domain(tenant, parse_address(settings.DEFAULT_FROM_EMAIL).domain_ascii)
    return tenant


@pytest.fixture
def own_backend(settings: Any) -> None:
    settings.EMAIL_BACKEND = "sending.messages.mail_backend.SystemMailBackend"


@pytest.mark.usefixtures("own_backend")
def test_system_mail_becomes_a_message_of_the_system_tenant(system: Tenant) -> None:
    mail = EmailMultiAlternatives("Reset {{ it }}", "Text {% x %}", to=["Ada <ada@bigmail.test>"])
    mail.attach_alternative("<p>HTML {{ secret }}</p>", "text/html")
    assert mail.send() == 1
    message = Message.unscoped.get()
    assert (message.tenant_id, message.recipient, message.stream) == (
        system.pk,
        "ada@bigmail.test",
        "transactional",
    )
    compiled = ensure_compiled(message.content_id)
    rendered = Renderer(compiled).render(RenderContext(variables=message.variables))
    assert rendered.subject == "Reset {{ it }}"
    assert rendered.text.startswith("Text {% x %}")
    assert "HTML {{ secret }}" in (rendered.html or "")


@pytest.mark.usefixtures("own_backend")
def test_without_a_verified_domain_system_mail_is_refused_and_logged_without_the_address(
    db: None, caplog: pytest.LogCaptureFixture
) -> None:
    make.tenant("System", slug=settings.SYSTEM_TENANT_SLUG)
    with caplog.at_level(logging.ERROR), pytest.raises(SystemMailUnavailable):
        send_mail("Hi", "Text", None, ["ada@bigmail.test"])
    assert "was not queued" in caplog.text
    assert "ada@" not in caplog.text
    assert send_mail("Hi", "Text", None, ["ada@bigmail.test"], fail_silently=True) == 0
