"""Values that the audience's services and selectors take and return."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Consent:
    """What a person agreed to, and where from; it stands in the subscription's history."""

    text: str = ""
    ip_address: str | None = None
    user_agent: str = ""


@dataclass(frozen=True)
class AudienceCount:
    """Who of the chosen lists gets a campaign. Each contact is counted in exactly one bucket.

    on_lists = unconfirmed + unsubscribed + excluded + suppressed + invalid + recipients;
    `duplicates` are further places of the same contacts on other chosen lists.
    """

    on_lists: int = 0
    duplicates: int = 0
    unconfirmed: int = 0
    unsubscribed: int = 0
    excluded: int = 0
    suppressed: int = 0
    suppressed_by_reason: dict[str, int] = field(default_factory=dict)
    invalid: int = 0
    recipients: int = 0


@dataclass(frozen=True)
class ConfirmationContent:
    """The mail that asks a person to confirm; `sender_id` is the `Sender` it comes from."""

    subject: str
    html: str
    text: str
    recipient: str
    recipient_name: str
    sender_id: object
    contact_id: object
