"""The providers whose HTTP APIs can be routes: what each needs, keeps and changes. Data only.

anymail (django-anymail 15) speaks to all of them. Where a provider takes a finished message
(`takes` = "raw") it gets our bytes, signature and all; the others get fields, build a message of
their own and sign it themselves. What else they do to ours stands in `note`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Field:
    """One setting of a provider; `name` is anymail's name for it."""

    name: str
    label: str
    help: str = ""
    is_secret: bool = False
    is_required: bool = True


@dataclass(frozen=True, slots=True)
class Check:
    """The cheapest call that needs the key and sends nothing; `ok` are the answers that prove it.

    `path` is relative to the base URL and may name settings in braces. `proof` is a text in the
    body that proves the key whatever the status was. Without a check only the connection is tried.
    """

    path: str
    method: Literal["GET", "POST"] = "GET"
    ok: tuple[int, ...] = (200,)
    proof: str = ""
    json: str = ""  # the body, with settings in double braces


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider; `base_url` "" means that the operator must give one."""

    name: str
    title: str
    backend: str
    takes: Literal["raw", "fields"]
    fields: tuple[Field, ...]
    base_url: str = ""
    note: str = ""
    check: Check | None = None
    metadata: bool = True  # anymail can hand our message id over for the provider's webhooks
    tracking: bool = False  # anymail can switch the provider's own tracking off
    needs_package: str = ""

    @property
    def secret_names(self) -> tuple[str, ...]:
        """The names of the settings that nobody may read."""
        return tuple(field.name for field in self.fields if field.is_secret)


_API_KEY = Field("api_key", "API key", is_secret=True)

PROVIDERS: dict[str, Provider] = {
    provider.name: provider
    for provider in (
        Provider(
            "amazon_ses",
            "Amazon SES",
            "sending.routes.http.amazon.SesBackend",
            "raw",
            (
                Field("access_key_id", "Access key ID"),
                Field("secret_access_key", "Secret access key", is_secret=True),
                Field("region", "Region", "For example eu-central-1."),
                Field("configuration_set_name", "Configuration set", is_required=False),
            ),
            base_url="https://email.{region}.amazonaws.com",
            note="Replaces Message-ID and Date with its own, which breaks our DKIM signature: "
            "set the domain up there as well.",
            needs_package="boto3",
        ),
        Provider(
            "mailgun",
            "Mailgun",
            "sending.routes.http.backends.MailgunBackend",
            "raw",
            (
                _API_KEY,
                Field("sender_domain", "Sending domain", "As it is called at Mailgun."),
            ),
            base_url="https://api.mailgun.net/v3/",
            note="For the EU region the base URL is https://api.eu.mailgun.net/v3/.",
            # An empty message: 401 for a wrong key, else 400, for lack of a recipient.
            check=Check("{sender_domain}/messages", "POST", ok=(400,)),
        ),
        Provider(
            "sparkpost",
            "SparkPost",
            "sending.routes.http.backends.SparkPostBackend",
            "raw",
            (_API_KEY, Field("subaccount", "Subaccount", is_required=False)),
            base_url="https://api.sparkpost.com/api/v1/",
            note="For the EU region the base URL is https://api.eu.sparkpost.com/api/v1/.",
        ),
        Provider(
            "mandrill",
            "Mandrill",
            "sending.routes.http.backends.MandrillBackend",
            "raw",
            (_API_KEY,),
            base_url="https://mandrillapp.com/api/1.0/",
            check=Check("users/ping2.json", "POST", json='{{"key": "{api_key}"}}'),
        ),
        Provider(
            "postal",
            "Postal",
            "sending.routes.http.backends.PostalBackend",
            "raw",
            (_API_KEY,),
            note="The base URL is that of your own Postal server.",
            metadata=False,
        ),
        Provider(
            "sendgrid",
            "SendGrid",
            "sending.routes.http.backends.SendGridBackend",
            "fields",
            (_API_KEY,),
            base_url="https://api.sendgrid.com/v3/",
            note="anymail has not tried SendGrid’s live API since June 2025.",
            check=Check("scopes"),
            tracking=True,
        ),
        Provider(
            "postmark",
            "Postmark",
            "sending.routes.http.backends.PostmarkBackend",
            "fields",
            (
                Field("server_token", "Server API token", is_secret=True),
                Field("message_stream", "Message stream", is_required=False),
            ),
            base_url="https://api.postmarkapp.com/",
            note="Our Message-ID is kept.",
            check=Check("server"),
            tracking=True,
        ),
        Provider(
            "resend",
            "Resend",
            "sending.routes.http.backends.ResendBackend",
            "fields",
            (_API_KEY,),
            base_url="https://api.resend.com/",
            note="An idempotency key keeps a repeated call from sending twice.",
            # A key that may only send is told so, and that proves it.
            check=Check("domains", proof="restricted_api_key"),
        ),
        Provider(
            "brevo",
            "Brevo",
            "sending.routes.http.backends.BrevoBackend",
            "fields",
            (_API_KEY,),
            base_url="https://api.brevo.com/v3/",
            note="Takes no inline images and no headers outside ASCII.",
            check=Check("account"),
        ),
        Provider(
            "mailjet",
            "Mailjet",
            "sending.routes.http.backends.MailjetBackend",
            "fields",
            (
                Field("api_key", "API key", is_secret=True),
                Field("secret_key", "Secret key", is_secret=True),
            ),
            base_url="https://api.mailjet.com/v3.1/",
            tracking=True,
        ),
        Provider(
            "mailersend",
            "MailerSend",
            "sending.routes.http.backends.MailerSendBackend",
            "fields",
            (Field("api_token", "API token", is_secret=True),),
            base_url="https://api.mailersend.com/v1/",
            note="Takes headers such as List-Unsubscribe on Enterprise plans only.",
            metadata=False,
            tracking=True,
        ),
        Provider(
            "mailtrap",
            "Mailtrap",
            "sending.routes.http.backends.MailtrapBackend",
            "fields",
            (Field("api_token", "API token", is_secret=True),),
            base_url="https://send.api.mailtrap.io/api/",
        ),
        Provider(
            "scaleway",
            "Scaleway",
            "sending.routes.http.backends.ScalewayBackend",
            "fields",
            (
                Field("secret_key", "Secret key", is_secret=True),
                Field("project_id", "Project ID"),
                Field("region", "Region", "For example fr-par."),
            ),
            base_url="https://api.scaleway.com/transactional-email/v1alpha1/regions/{region}/",
            note="Takes no inline images.",
        ),
    )
}
