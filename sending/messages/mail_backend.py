"""Django's mail goes through our own queue: as transactional messages of the system tenant.

So a password reset is delivered, retried and logged like every other message. It is written in the
running transaction and leaves when that is committed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from django.conf import settings
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.core.mail.backends.base import BaseEmailBackend

from deliverability.domains.selectors import verified_domain_for
from esp.lib.addresses import parse_address
from esp.lib.errors import DomainError, InvalidInput
from sending.content.types import ContentSource
from sending.messages.errors import SystemMailUnavailable
from sending.messages.literal import BRACE, literal
from sending.messages.services import accept_messages
from sending.messages.types import Recipient, SendRequest
from tenants.directory.actor import system_actor
from tenants.directory.models import Tenant
from tenants.scoping.context import scope

log = logging.getLogger(__name__)


def system_tenant() -> Tenant:
    """Return the tenant that the product's own mail belongs to; raises SystemMailUnavailable."""
    tenant = Tenant.objects.filter(slug=settings.SYSTEM_TENANT_SLUG).first()
    if tenant is None:
        raise SystemMailUnavailable("This site cannot send mail yet: there is no system workspace.")
    return tenant


def check_system_mail() -> None:
    """Raise SystemMailUnavailable when the product's own mail cannot leave.

    A page that answers the same whether an account exists or not (password reset) asks this before
    it looks for the account: the answer then says nothing about it.
    """
    tenant = system_tenant()
    sender = parse_address(settings.DEFAULT_FROM_EMAIL)
    with scope(tenant.pk):
        if verified_domain_for(sender.addr_spec) is None:
            raise SystemMailUnavailable(
                "This site cannot send mail yet: an operator must verify the domain "
                f"{sender.domain_unicode} in the system workspace."
            )


class SystemMailBackend(BaseEmailBackend):
    """EMAIL_BACKEND: queues each mail; raises DomainError unless `fail_silently`."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        queued = 0
        for mail in email_messages:
            if not mail.recipients():
                continue
            try:
                check_system_mail()
                accept_messages(
                    actor=system_actor(system_tenant().pk, "system mail"), request=_request(mail)
                )
            except DomainError as error:
                # The recipient is not logged: a log must not say who has an account.
                log.error("system mail was not queued: %s", error.message)
                if not self.fail_silently:
                    raise
            else:
                queued += 1
        return queued


def _request(mail: EmailMessage) -> SendRequest:
    if mail.attachments:
        raise InvalidInput("The system's own mail carries no files.", code="attachments")
    sender = parse_address(mail.from_email or settings.DEFAULT_FROM_EMAIL)
    return SendRequest(
        from_email=sender.addr_spec,
        from_name=sender.display,
        reply_to=parse_address(mail.reply_to[0]).addr_spec if mail.reply_to else "",
        recipients=tuple(_recipient(text) for text in dict.fromkeys(mail.recipients())),
        source=_source(mail),
        headers={str(name): str(value) for name, value in mail.extra_headers.items()},
        tags=("system",),
    )


def _recipient(text: str) -> Recipient:
    address = parse_address(text)
    return Recipient(email=address.addr_spec, name=address.display, variables=BRACE)


def _source(mail: EmailMessage) -> ContentSource:
    body = literal(str(mail.body))
    subject = literal(str(mail.subject))
    html = None
    if mail.content_subtype == "html":
        return ContentSource(kind="html", body=body, subject=subject)
    if isinstance(mail, EmailMultiAlternatives):
        html = next(
            (str(content) for content, kind in mail.alternatives if kind == "text/html"), None
        )
    if html is None:
        return ContentSource(kind="text", body=body, subject=subject)
    return ContentSource(kind="html", body=literal(html), subject=subject, text_body=body)
