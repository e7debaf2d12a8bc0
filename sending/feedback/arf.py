"""Complaints: feedback reports by RFC 5965, also redacted ones, and what comes close to them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sending.feedback.dsn import find_address
from sending.feedback.mailparts import Mail, list_fields
from sending.feedback.originals import original_headers

_NOT_COMPLAINTS = {"not-spam"}  # RFC 6430: the reader takes the complaint back
_BY_MACHINES = ("auth-failure", "dmarc", "virus")
_REPORT_FIELD = re.compile(r"(?im)^feedback-type[ \t]*:")


@dataclass(frozen=True, slots=True)
class Complaint:
    """`feedback_type` is abuse, fraud, virus, opt-out, auth-failure, …; recipients may be ().

    `mail_from` is the envelope sender of our message, when the report tells it.
    """

    feedback_type: str
    recipients: tuple[str, ...]
    mail_from: str = ""


def read_complaint(mail: Mail) -> Complaint | None:
    """Return the complaint in `mail`, or None when it is none."""
    for part in mail.parts:
        if part.content_type == "message/feedback-report":
            return _complaint(part.text, mail)
    if mail.report_type == "feedback-report":
        for part in mail.parts:
            if _REPORT_FIELD.search(part.text):
                return _complaint(part.text, mail)
        return Complaint("abuse", _quoted_recipients(mail))
    return _unlabelled(mail)


def _complaint(text: str, mail: Mail) -> Complaint:
    fields = list_fields(text)
    kinds = [value.lower() for name, value in fields if name == "feedback-type"]
    named = [
        find_address(value)
        for name, value in fields
        if name in ("original-rcpt-to", "removal-recipient")
    ]
    recipients = tuple(dict.fromkeys(a for a in named if a)) or _quoted_recipients(mail)
    senders = [find_address(value) for name, value in fields if name == "original-mail-from"]
    return Complaint(kinds[0] if kinds else "abuse", recipients, next(iter(senders), ""))


def _quoted_recipients(mail: Mail) -> tuple[str, ...]:
    quoted = original_headers(mail)
    for source in (quoted, mail.headers):
        for name in ("x-hmxmroriginalrecipient", "x-original-to", "delivered-to"):
            address = find_address(source.get(name, ""))
            if address:
                return (address,)
    address = find_address(quoted.get("to", ""))
    return (address,) if address else ()


def _unlabelled(mail: Mail) -> Complaint | None:
    """Recognise the reports of loops that send no RFC 5965 part (JMRP and some smaller ones)."""
    subject = mail.header("subject").lower()
    is_jmrp = "x-hmxmroriginalrecipient" in mail.headers or re.match(
        r"complaint about message from \[?[\d.:a-f]+", subject
    )
    if is_jmrp and any(part.content_type == "message/rfc822" for part in mail.parts):
        return Complaint("abuse", _quoted_recipients(mail))
    return None


def is_complaint(feedback_type: str) -> bool:
    """Tell whether a person complained: reports of failed authentication (RFC 6591) are not."""
    return feedback_type not in _NOT_COMPLAINTS and not feedback_type.startswith(_BY_MACHINES)


def is_opt_out(feedback_type: str) -> bool:
    """Tell whether the reader only wants to leave (a type of the drafts that loops still send)."""
    return feedback_type.startswith("opt-out")
