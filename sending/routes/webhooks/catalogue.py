"""How each provider reports: what proves a call, what is to be set up there. Data only.

Sources: each provider's page on webhooks, and anymail's, which reads all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from sending.routes.providers import Field

_TICK = "Choose deliveries, delays, bounces, drops, complaints and unsubscribes"


@dataclass(frozen=True, slots=True)
class WebhookKind:
    """A provider's webhook; `key` is what its signature is checked with, where it signs."""

    reader: str
    note: str
    key: Field | None = None
    always_signed: bool = False  # needs no key of ours


_MODULE = "sending.routes.webhooks.readers"

WEBHOOKS: dict[str, WebhookKind] = {
    "amazon_ses": WebhookKind(
        f"{_MODULE}.Ses",
        "Give the route a configuration set, publish its events (rendering failures, rejects, "
        "deliveries, delivery delays, bounces, complaints) to an SNS topic, and subscribe this "
        "address to the topic by HTTPS, without raw message delivery. The subscription is "
        "confirmed by itself.",
        Field(
            "topic_arn",
            "SNS topic",
            "The topic’s ARN. With one given, no other topic is listened to.",
            is_required=False,
        ),
        always_signed=True,
    ),
    "mailgun": WebhookKind(
        f"{_MODULE}.Mailgun",
        "Add the address under Sending, Webhooks, for the events: delivered messages, permanent "
        "and temporary failure, spam complaints, unsubscribes.",
        Field("key", "HTTP webhook signing key", "Under Settings, API security.", is_secret=True),
    ),
    "sparkpost": WebhookKind(
        f"{_MODULE}.SparkPost",
        f"Add the address under Configuration, Webhooks. {_TICK}.",
    ),
    "mandrill": WebhookKind(
        f"{_MODULE}.Mandrill",
        "Add the address under Settings, Webhooks, with the events for sent messages.",
        Field("key", "Webhook key", "Shown beside the webhook once it is added.", is_secret=True),
    ),
    "postal": WebhookKind(
        f"{_MODULE}.Postal",
        "Add the address under Webhooks of the mail server.",
        Field(
            "key",
            "Public key",
            "The p= value of Postal’s default DKIM record.",
            is_secret=True,
        ),
    ),
    "sendgrid": WebhookKind(
        f"{_MODULE}.SendGrid",
        f"Add the address under Settings, Mail settings, Event webhooks. {_TICK}.",
        Field(
            "key",
            "Verification key",
            "Shown when the signed event webhook is switched on there.",
            is_secret=True,
        ),
    ),
    "postmark": WebhookKind(
        f"{_MODULE}.Postmark",
        "Add the address under the message stream’s Webhooks, for delivery, bounce, spam complaint "
        "and subscription change.",
    ),
    "resend": WebhookKind(
        f"{_MODULE}.Resend",
        "Add the address under Webhooks, for the email events delivered, delivery delayed, bounced "
        "and complained.",
        Field("key", "Signing secret", "Begins with whsec_.", is_secret=True),
    ),
    "brevo": WebhookKind(
        f"{_MODULE}.Brevo", f"Add the address under Transactional, Settings, Webhook. {_TICK}."
    ),
    "mailjet": WebhookKind(
        f"{_MODULE}.Mailjet", "Add the address under Event notifications, for all events but opens."
    ),
    "mailersend": WebhookKind(
        f"{_MODULE}.MailerSend",
        "Add the address under the domain’s Webhooks, for delivered, soft and hard bounces, "
        "complaints and unsubscribes.",
        Field("key", "Signing secret", is_secret=True),
    ),
    "mailtrap": WebhookKind(
        f"{_MODULE}.Mailtrap",
        f"Add the address under Settings, Webhooks, in JSON format. {_TICK}.",
        Field("key", "Signature key", is_secret=True),
    ),
}
