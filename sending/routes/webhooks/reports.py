"""From anymail's normalised events to our reports. No Django, no database."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from typing import Any

from anymail.signals import EventType, RejectReason

from sending.engine.replies import clean
from sending.routes.webhooks.types import CallContent, Report, ReportKind

_KINDS: dict[str, ReportKind] = {
    EventType.BOUNCED: "bounced",
    EventType.REJECTED: "bounced",  # it never left the provider
    EventType.FAILED: "bounced",
    EventType.DEFERRED: "deferred",
    EventType.DELIVERED: "delivered",
    EventType.COMPLAINED: "complained",
    EventType.UNSUBSCRIBED: "unsubscribed",
    EventType.AUTORESPONDED: "autoreplied",
}
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
# Refusals of the provider itself, from its list of people who bounced or complained there.
_ON_ITS_LIST = {
    RejectReason.BOUNCED, RejectReason.BLOCKED, RejectReason.SPAM, RejectReason.UNSUBSCRIBED,
}  # fmt: skip

# The providers' own words for a bounce, in anymail's order of keys: SES, Postmark, SendGrid,
# Brevo and Mandrill, MailerSend, Resend, Mailgun. Only what is unmistakable stands here, since
# "hard/invalid-recipient" ends all mail of the tenant to an address.
_WORDS = {
    "permanent: general": "hard/invalid-recipient",
    "permanent: noemail": "hard/invalid-recipient",
    "permanent: suppressed": "block/suppressed",
    "permanent: onaccountsuppressionlist": "block/suppressed",
    "transient: mailboxfull": "soft/mailbox-full",
    "transient: messagetoolarge": "block/content",
    "transient: contentrejected": "block/content",
    "transient: attachmentrejected": "block/content",
    "transient: general": "soft/server-error",
    "hardbounce": "hard/invalid-recipient",
    "bademailaddress": "hard/invalid-recipient",
    "softbounce": "soft/server-error",
    "dnserror": "soft/network-error",
    "hard_bounce": "hard/invalid-recipient",
    "soft_bounce": "soft/server-error",
    "invalid_email": "hard/invalid-recipient",
    "hard_bounced": "hard/invalid-recipient",
    "soft_bounced": "soft/server-error",
    "suppress-bounce": "block/suppressed",
    "suppress-complaint": "block/suppressed",
    "suppress-unsubscribe": "block/suppressed",
}
# SparkPost's numbers (https://support.sparkpost.com/docs/deliverability/bounce-classification-codes).
_SPARKPOST = {
    "10": "hard/invalid-recipient", "20": "soft/server-error", "21": "soft/network-error",
    "22": "soft/mailbox-full", "23": "block/content", "24": "soft/network-error",
    "25": "block/policy", "30": "hard/invalid-recipient", "50": "block/policy",
    "51": "block/spam", "52": "block/spam", "53": "block/content", "54": "block/relay-denied",
    "70": "soft/server-error",
}  # fmt: skip


def reports_of(provider: str, events: Iterable[Any]) -> CallContent:
    """Return what `events` (anymail's tracking events) report; opens and the like are counted."""
    reports: list[Report] = []
    others = 0
    for event in events:
        found = report_of(provider, event)
        if found is None:
            others += 1
        else:
            reports.append(found)
    return CallContent(tuple(reports), others)


def report_of(provider: str, event: Any) -> Report | None:
    """Return what one event reports, or None for a kind that changes nothing here."""
    raw = event.esp_event if isinstance(event.esp_event, Mapping) else {}
    kind = _KINDS.get(event.event_type)
    recipient, text, status = event.recipient, event.mta_response or event.description, ""
    if provider == "amazon_ses":
        raw_kind, told = _ses(raw, str(recipient or ""))
        kind = raw_kind or kind
        status = str(told.get("status") or "")
        text = told.get("diagnosticCode") or text
        event_id = _text(_at(raw, "bounce", "feedbackId") or _at(raw, "complaint", "feedbackId"))
        recipient = told.get("emailAddress") or recipient
    else:
        event_id = _text(event.event_id)
        status = _status_of(raw)
    if kind is None:
        return None
    return Report(
        kind=kind,
        message=_own_id(provider, event, raw),
        provider_id=_text(event.message_id),
        recipient=_text(recipient)[:320],
        status=status if _STATUS.fullmatch(status) else "",
        text=clean(_text(text))[:500],
        hint=_hint(kind, event, raw) if kind == "bounced" else "",
        at=_when(event, raw),
        event_id=event_id[:200],
    )


def _ses(raw: Mapping[str, Any], recipient: str) -> tuple[ReportKind | None, Mapping[str, Any]]:
    """Return what SES says of one recipient; anymail does not know its DeliveryDelay."""
    kind: ReportKind | None = None
    people = _at(raw, "bounce", "bouncedRecipients")
    if _text(raw.get("eventType")) == "DeliveryDelay":
        kind, people = "deferred", _at(raw, "deliveryDelay", "delayedRecipients")
    for found in people if isinstance(people, list) else ():
        address = found.get("emailAddress") if isinstance(found, Mapping) else None
        if isinstance(address, str) and (kind or address.lower() == recipient.lower()):
            return kind, found
    return kind, {}


def _own_id(provider: str, event: Any, raw: Mapping[str, Any]) -> str:
    """Return our id of the message as the provider handed it back, else ""."""
    if provider == "amazon_ses":
        found = _at(raw, "mail", "tags", "message_id")
        return _text(found[0])[:60] if isinstance(found, list) and found else ""
    metadata = event.metadata if isinstance(event.metadata, Mapping) else {}
    return _text(metadata.get("message_id"))[:60]


def _status_of(raw: Mapping[str, Any]) -> str:
    """Return the RFC 3463 code where a provider has a field for it: SendGrid, Mailgun."""
    if isinstance(raw.get("status"), str):
        return str(raw["status"])
    return _text(_at(raw, "event-data", "delivery-status", "enhanced-code"))


def _hint(kind: str, event: Any, raw: Mapping[str, Any]) -> str:
    if event.reject_reason == RejectReason.INVALID:
        return "hard/invalid-recipient"
    if event.event_type == EventType.REJECTED:
        return "block/suppressed" if event.reject_reason in _ON_ITS_LIST else "block/policy"
    for word in (
        event.description,
        raw.get("Type"),
        raw.get("event") if isinstance(raw.get("event"), str) else "",
        _at(raw, "data", "type"),
        _at(raw, "event-data", "reason"),
    ):
        found = _WORDS.get(_text(word).lower())
        if found:
            return found
    if raw.get("hard_bounce") is True or _text(_at(raw, "data", "bounce", "type")) == "Permanent":
        return "hard/invalid-recipient"  # Mailjet; Resend
    for inner in (raw.get("msys") or {}).values() if isinstance(raw.get("msys"), Mapping) else ():
        return _SPARKPOST.get(_text(_at(inner, "bounce_class")), "")
    return ""


def _when(event: Any, raw: Mapping[str, Any]) -> str:
    """Return the event's own time. SNS and svix stamp a repeated try anew; the event does not."""
    found = next(
        (
            text
            for name in ("bounce", "complaint", "delivery", "deliveryDelay")
            if isinstance(text := _at(raw, name, "timestamp"), str) and text
        ),
        None,
    )
    if found:
        return found[:40]
    at = event.timestamp
    return at.isoformat() if isinstance(at, dt.datetime) else ""


def _at(data: Any, *path: str) -> Any:
    """Return what stands at `path` in nested objects, else None; never raises."""
    for name in path:
        data = data.get(name) if isinstance(data, Mapping) else None
    return data


def _text(value: Any) -> str:
    """Return a short text of what may be anything."""
    return value if isinstance(value, str) else str(value) if isinstance(value, int) else ""
