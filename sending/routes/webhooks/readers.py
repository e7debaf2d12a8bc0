"""anymail's webhook views, for one call each and without their settings, warnings and signals.

A reader is made with the route's own keys, says whether the call is the provider's
(`run_validators`) and reads it (`parse_events`). anymail's constructors want settings of the whole
process and warn about what stands on the route's page, so they are not run.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from typing import Any

from anymail.exceptions import AnymailWebhookValidationFailure
from anymail.utils import collect_all_methods
from anymail.webhooks import (
    amazon_ses,
    brevo,
    mailersend,
    mailgun,
    mailjet,
    mailtrap,
    mandrill,
    postal,
    postmark,
    resend,
    sendgrid,
    sparkpost,
)
from anymail.webhooks.base import AnymailBasicAuthMixin
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from django.http import HttpRequest

from sending.routes.webhooks import sns

# How far a signed time may lie from ours (the Standard Webhooks' five minutes).
_TOLERANCE_SECONDS = 300


class Reader:
    """What all readers share; `key` "" means that signatures are not checked."""

    def __init__(self, *, basic_auth: str, key: str, url: str) -> None:
        self.basic_auth = [basic_auth] if basic_auth else []
        self.key, self.url = key, url
        self.validators = [AnymailBasicAuthMixin.validate_request]
        if key or self.is_always_signed:
            self.validators = collect_all_methods(type(self), "validate_request")
        if key:
            self.set_key(key)

    is_always_signed = False

    def set_key(self, key: str) -> None:
        """Put the key where anymail's view looks for it; raises ValueError for a wrong one."""


class Ses(Reader, amazon_ses.AmazonSESTrackingWebhookView):  # type: ignore[misc]
    is_always_signed = True

    def validate_request(self, request: HttpRequest) -> None:
        """Check Amazon's signature, which anymail does not, and the topic."""
        message = self._parse_sns_message(request)
        sns.verify(message)
        if self.key and message.get("TopicArn") != self.key:
            raise AnymailWebhookValidationFailure("it comes from another SNS topic")

    def auto_confirm_sns_subscription(self, sns_message: dict[str, Any]) -> None:
        """Confirm: whoever knows the address, and whose signature is Amazon's, is meant."""
        sns.confirm(sns_message)


class Mailgun(Reader, mailgun.MailgunTrackingWebhookView):  # type: ignore[misc]
    def set_key(self, key: str) -> None:
        self.webhook_signing_key = key.encode("ascii")


class SparkPost(Reader, sparkpost.SparkPostTrackingWebhookView):  # type: ignore[misc]
    pass


class Mandrill(Reader, mandrill.MandrillCombinedWebhookView):  # type: ignore[misc]
    def set_key(self, key: str) -> None:
        self.webhook_key = key.encode("ascii")
        self.webhook_url = self.url  # a part of what is signed


class Postal(Reader, postal.PostalTrackingWebhookView):  # type: ignore[misc]
    def set_key(self, key: str) -> None:
        _public_key(key)
        self.webhook_key = key


class SendGrid(Reader, sendgrid.SendGridTrackingWebhookView):  # type: ignore[misc]
    webhook_verification_key = None

    def set_key(self, key: str) -> None:
        self.webhook_verification_key = _public_key(key)


class Postmark(Reader, postmark.PostmarkTrackingWebhookView):  # type: ignore[misc]
    pass


class Resend(Reader, resend.ResendTrackingWebhookView):  # type: ignore[misc]
    _svix_webhook = None  # needs a package of its own for five lines; see below

    def set_key(self, key: str) -> None:
        self.secret = base64.b64decode(key.removeprefix("whsec_"), validate=True)

    def validate_request(self, request: HttpRequest) -> None:
        """Check a signature as the Standard Webhooks want it (svix-id, -timestamp, -signature)."""
        if not self.key:
            return
        names = ("svix-id", "svix-timestamp", "svix-signature")
        event_id, at, signatures = (request.headers.get(name, "") for name in names)
        signed = f"{event_id}.{at}.".encode() + request.body
        wanted = base64.b64encode(hmac.digest(self.secret, signed, hashlib.sha256))
        given = [part.removeprefix("v1,") for part in signatures.split() if part[:3] == "v1,"]
        if not any(hmac.compare_digest(wanted, part.encode()) for part in given):
            raise AnymailWebhookValidationFailure("its signature is wrong")
        if not at.isdigit() or abs(time.time() - int(at)) > _TOLERANCE_SECONDS:
            raise AnymailWebhookValidationFailure("it was signed too long ago")


class Brevo(Reader, brevo.BrevoTrackingWebhookView):  # type: ignore[misc]
    pass


class Mailjet(Reader, mailjet.MailjetTrackingWebhookView):  # type: ignore[misc]
    pass


class MailerSend(Reader, mailersend.MailerSendTrackingWebhookView):  # type: ignore[misc]
    _secret_setting_name = "signing_secret"  # noqa: S105 (a name)

    def set_key(self, key: str) -> None:
        self.signing_secret = key.encode("ascii")


class Mailtrap(Reader, mailtrap.MailtrapTrackingWebhookView):  # type: ignore[misc]
    _secret_setting_name = "signing_secret"  # noqa: S105 (a name)

    def set_key(self, key: str) -> None:
        self.signing_secret = key.encode()


def _public_key(text: str) -> Any:
    """Read a public key's Base64 as PEM's inside; raises ValueError."""
    pem = f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----"
    try:
        return load_pem_public_key(pem.encode())
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from error
