"""anymail's backends as the routes use them: bounded sessions, our bytes where they are taken.

Where a provider has a call for finished messages, the payload below replaces anymail's fields by
it; the answer is read by anymail either way. Sources: each provider's API reference, as named.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import requests
from anymail.backends import (
    brevo,
    mailersend,
    mailgun,
    mailjet,
    mailtrap,
    mandrill,
    postal,
    postmark,
    resend,
    scaleway,
    sendgrid,
    sparkpost,
)
from anymail.backends.base_requests import AnymailRequestsBackend

from sending.routes.http.session import BoundedSession


class Bounded(AnymailRequestsBackend):  # type: ignore[misc]
    """Gives a backend a session whose calls end."""

    def __init__(self, *, connect_seconds: float, total_seconds: float, **options: Any) -> None:
        self._seconds = (connect_seconds, total_seconds)
        super().__init__(**options)

    def create_session(self) -> requests.Session:
        """Return the session, with anymail's headers."""
        connect_seconds, total_seconds = self._seconds
        session = BoundedSession(connect_seconds=connect_seconds, total_seconds=total_seconds)
        session.headers.update(super().create_session().headers)
        return session


# --- providers that take the finished message ---


class MailgunRaw(mailgun.MailgunPayload):  # type: ignore[misc]
    """POST /{domain}/messages.mime: "Send an email in MIME format"."""

    def get_api_endpoint(self) -> str:
        return f"{super().get_api_endpoint()}.mime"

    def serialize_data(self) -> dict[str, Any]:
        self.files = [("message", ("message.mime", self.message.raw, "message/rfc822"))]
        variables = {name: value for name, value in self.data.items() if name.startswith("v:")}
        # Their tracking would rewrite the links, and with them what is signed.
        return {"to": self.data["to"], "o:tracking": "no", **variables}

    def get_request_params(self, api_url: str) -> dict[str, Any]:
        params: dict[str, Any] = super().get_request_params(api_url)
        params["files"] = self.files  # serialize_data made them
        return params


class MailgunBackend(Bounded, mailgun.EmailBackend):  # type: ignore[misc]
    def build_message_payload(self, message: Any, defaults: Any) -> MailgunRaw:
        return MailgunRaw(message, defaults, self)


class SparkPostRaw(sparkpost.SparkPostPayload):  # type: ignore[misc]
    """POST /transmissions with content.email_rfc822."""

    def serialize_data(self) -> str:
        data = {
            "options": {"open_tracking": False, "click_tracking": False},
            "recipients": [{"address": {"email": to.addr_spec}} for to in self.recipients],
            "content": {"email_rfc822": self.message.raw.decode("utf-8")},
            **{key: self.data[key] for key in ("metadata",) if key in self.data},
        }
        return json.dumps(data)


class SparkPostBackend(Bounded, sparkpost.EmailBackend):  # type: ignore[misc]
    def build_message_payload(self, message: Any, defaults: Any) -> SparkPostRaw:
        return SparkPostRaw(message, defaults, self)


class MandrillRaw(mandrill.MandrillPayload):  # type: ignore[misc]
    """POST /messages/send-raw.json."""

    def get_api_endpoint(self) -> str:
        return "messages/send-raw.json"

    def serialize_data(self) -> str:
        data = {
            "key": self.backend.api_key,
            "raw_message": self.message.raw.decode("utf-8"),
            "to": list(self.message.to),
        }
        return json.dumps(data)


class MandrillBackend(Bounded, mandrill.EmailBackend):  # type: ignore[misc]
    def build_message_payload(self, message: Any, defaults: Any) -> MandrillRaw:
        return MandrillRaw(message, defaults, self)


class PostalRaw(postal.PostalPayload):  # type: ignore[misc]
    """POST /api/v1/send/raw."""

    def get_api_endpoint(self) -> str:
        return "api/v1/send/raw"

    def serialize_data(self) -> str:
        data = {
            "mail_from": self.message.from_email,
            "rcpt_to": list(self.message.to),
            "data": base64.b64encode(self.message.raw).decode(),
        }
        return json.dumps(data)


class PostalBackend(Bounded, postal.EmailBackend):  # type: ignore[misc]
    def build_message_payload(self, message: Any, defaults: Any) -> PostalRaw:
        return PostalRaw(message, defaults, self)


# --- providers that take fields ---


class SendGridBackend(Bounded, sendgrid.EmailBackend):  # type: ignore[misc]
    def __init__(
        self,
        *,
        connect_seconds: float,
        total_seconds: float,
        api_key: str,
        api_url: str,
        **options: Any,
    ) -> None:
        # Past anymail's own: it warns each time that nobody has tried this since June 2025, which
        # the route's page says once.
        self._seconds = (connect_seconds, total_seconds)
        self.api_key = api_key
        self.generate_message_id = False
        self.merge_field_format = None
        AnymailRequestsBackend.__init__(self, api_url, **options)


class PostmarkBackend(Bounded, postmark.EmailBackend):  # type: ignore[misc]
    def build_message_payload(self, message: Any, defaults: Any) -> Any:
        message.extra_headers["X-PM-KeepID"] = "true"  # else it writes a Message-ID of its own
        return super().build_message_payload(message, defaults)


class ResendBackend(Bounded, resend.EmailBackend):  # type: ignore[misc]
    def build_message_payload(self, message: Any, defaults: Any) -> Any:
        payload = super().build_message_payload(message, defaults)
        # Kept for 24 hours there: a call repeated after a lost answer sends nothing twice.
        payload.headers["Idempotency-Key"] = message.metadata["message_id"]
        return payload


class BrevoBackend(Bounded, brevo.EmailBackend):  # type: ignore[misc]
    pass


class MailjetBackend(Bounded, mailjet.EmailBackend):  # type: ignore[misc]
    pass


class MailerSendBackend(Bounded, mailersend.EmailBackend):  # type: ignore[misc]
    pass


class MailtrapBackend(Bounded, mailtrap.EmailBackend):  # type: ignore[misc]
    pass


class ScalewayBackend(Bounded, scaleway.EmailBackend):  # type: ignore[misc]
    pass
