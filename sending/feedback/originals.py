"""Find our own message in what an incoming mail quotes."""

from __future__ import annotations

import re

from sending.feedback.mailparts import Mail, parse_fields

_QUOTING_TYPES = ("message/rfc822", "text/rfc822-headers", "message/rfc822-headers",
                  "message/global", "message/global-headers", "message/partial")  # fmt: skip
_MESSAGE_ID = re.compile(r"<([^<>\s@]{1,250}@[^<>\s@]{1,250})>")
_ID_LINE = re.compile(r"(?im)^[ \t>|]{0,8}message-id[ \t]*:[ \t\n>|]*<([^<>\s]{3,500})>")


def original_headers(mail: Mail) -> dict[str, str]:
    """Return the headers of the message that a bounce or complaint quotes, or {}."""
    for part in mail.parts:
        if part.content_type in _QUOTING_TYPES:
            text = part.text.lstrip("\n")
            head = re.split(r"\n[ \t]*\n", text, maxsplit=1)[0]
            fields = parse_fields(head)
            if fields:
                return fields
    for part in mail.parts:
        match = re.search(r"(?im)^[ \t>|]{0,4}(?:received|return-path|message-id):[ \t]", part.text)
        if match is not None:
            quoted = re.sub(r"(?m)^[>|][ \t]?", "", part.text[match.start() :][:20000])
            head = re.split(r"\n[ \t]*\n", quoted, maxsplit=1)[0]
            return parse_fields(head)
    return {}


def original_message_id(mail: Mail) -> str:
    """Return the Message-ID of the quoted message without its brackets, or "".

    Replies name it in In-Reply-To and References (RFC 5322 section 3.6.4).
    """
    match = _MESSAGE_ID.search(original_headers(mail).get("message-id", ""))
    if match is not None:
        return match.group(1)
    for part in mail.parts:
        match = _ID_LINE.search(part.text)
        if match is not None:
            return match.group(1)
    for name in ("x-original-message-id", "in-reply-to", "references"):
        match = _MESSAGE_ID.search(mail.headers.get(name, ""))
        if match is not None:
            return match.group(1)
    return ""


def original_return_path(mail: Mail) -> str:
    """Return the envelope sender of the quoted message as its last server noted it, or ""."""
    return original_headers(mail).get("return-path", "").strip(" <>")[:320]
