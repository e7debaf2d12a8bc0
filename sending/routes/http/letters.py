"""From our finished message to what a provider takes: its bytes, or the fields it is made of."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.encoders import encode_base64
from email.headerregistry import AddressHeader
from email.message import EmailMessage as ParsedMessage
from email.mime.base import MIMEBase
from email.utils import formataddr
from typing import Any

from django.core.mail import EmailMultiAlternatives

# What the provider writes itself or has a field for; a signature of ours would not fit its message.
_NOT_HANDED_ON = {
    "from", "to", "cc", "bcc", "subject", "reply-to", "date", "mime-version", "return-path",
    "received", "dkim-signature",
}  # fmt: skip


class RawLetter(EmailMultiAlternatives):
    """A finished message for one recipient; `raw` goes out as it is."""

    def __init__(self, *, raw: bytes, mail_from: str, rcpt_to: str) -> None:
        super().__init__(subject="-", body="-", from_email=mail_from or None, to=[rcpt_to])
        self.raw = raw


def field_letter(data: bytes, *, rcpt_to: str) -> EmailMultiAlternatives:
    """Return our message as fields, for `rcpt_to` alone.

    Others in To and Cc have messages of their own: named here, the provider would send to them,
    too. So the recipient sees only their own address. Our headers (Message-ID, List-Unsubscribe,
    Feedback-ID, the tenant's own) are handed on.
    """
    parsed = message_from_bytes(data, policy=policy.default)
    assert isinstance(parsed, ParsedMessage)
    text, html = parsed.get_body(("plain",)), parsed.get_body(("html",))
    letter = EmailMultiAlternatives(
        subject=str(parsed.get("subject", "")),
        body=_content(text),
        from_email=str(parsed.get("from", "")),
        to=[formataddr((_name_of(parsed, rcpt_to), rcpt_to))],
        reply_to=[str(entry) for entry in _addresses(parsed, "reply-to")],
        headers={
            name: str(value)
            for name, value in parsed.items()
            if name.lower() not in _NOT_HANDED_ON and not name.lower().startswith("content-")
        },
    )
    if html is not None and text is not None:
        letter.attach_alternative(_content(html), "text/html")
    elif html is not None:
        letter.body, letter.content_subtype = _content(html), "html"
    letter.attachments += [
        _file(part)
        for part in parsed.walk()
        if not part.is_multipart() and part not in (text, html)
    ]
    return letter


def _content(part: Any) -> str:
    return str(part.get_content()).replace("\r\n", "\n") if part is not None else ""


def _addresses(parsed: ParsedMessage, name: str) -> list[Any]:
    header = parsed.get(name)
    return list(header.addresses) if isinstance(header, AddressHeader) else []


def _name_of(parsed: ParsedMessage, rcpt_to: str) -> str:
    for entry in _addresses(parsed, "to"):
        if entry.addr_spec.lower() == rcpt_to.lower():
            return str(entry.display_name)
    return ""


def _file(part: Any) -> MIMEBase:
    """Return an attachment; one with a Content-ID is shown inside the HTML."""
    file = MIMEBase(part.get_content_maintype(), part.get_content_subtype())
    file.set_payload(part.get_payload(decode=True) or b"")
    encode_base64(file)
    content_id = part.get("content-id")
    kind = "inline" if content_id else "attachment"
    file.add_header("Content-Disposition", kind, filename=part.get_filename() or "attachment")
    if content_id:
        file.add_header("Content-ID", str(content_id))
    return file
