"""Header lines of internet messages: RFC 5322, 2047 (encoded words), 2369 and 8058 (lists).

No value with a control character is ever written: injection is refused, not repaired. Lines are
folded at 78 characters and come without the final CRLF. What nearly every message has (ASCII words,
short) takes a short way.
"""

from __future__ import annotations

import base64
import datetime as dt
import re
from collections.abc import Sequence
from email.utils import format_datetime
from functools import lru_cache

from esp.lib.addresses import Address
from esp.lib.errors import InvalidInput

FOLD = 78  # RFC 5322 section 2.1.1: should
MAX_LINE = 998  # and must
MAX_HEADER_VALUE = 16_000

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-]{0,75}\Z")
_ATEXT_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~ ]*\Z")
_LOOKS_ENCODED = re.compile(r"=\?[^?]*\?[^?]*\?[^?]*\?=")
_MESSAGE_ID = re.compile(r"<[^<>\s@]+@[^<>\s@]+>\Z")
RESERVED = frozenset(
    [
        "from",
        "to",
        "cc",
        "bcc",
        "sender",
        "reply-to",
        "return-path",
        "received",
        "date",
        "message-id",
        "subject",
        "mime-version",
        "delivered-to",
        "errors-to",
        "envelope-to",
        "dkim-signature",
        "domainkey-signature",
        "authentication-results",
        "received-spf",
        "list-unsubscribe",
        "list-unsubscribe-post",
        "list-id",
        "feedback-id",
        "cfbl-address",
        "cfbl-feedback-id",
        "auto-submitted",
        "precedence",
        "resent-from",
        "resent-to",
        "resent-cc",
        "resent-bcc",
        "resent-date",
        "resent-sender",
        "resent-message-id",
        "disposition-notification-to",
        "return-receipt-to",
        "x-original-to",
        "apparently-to",
    ]
)
# Words with one blank between them: what needs no closer look.
_PLAIN_TEXT = re.compile(r"[!-~]+(?: [!-~]+)*").fullmatch
_PLAIN_PHRASE = re.compile(
    r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+(?: [A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+)*"
).fullmatch
_PLAIN_MAILBOX = re.compile(r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~.]+@[A-Za-z0-9.\-]+").fullmatch
_NOT_IN_MAILBOX = re.compile(r'[\s<>,;"()]').search
_PLAIN_ID = re.compile(r"<[!-;=?A-~]{1,300}@[!-;=?A-~]{1,300}>").fullmatch
_PLAIN_URL = re.compile(r"(?:https?|mailto):[!-+\--;=?-~]{1,890}").fullmatch
_RESERVED_PREFIXES = ("content-", "arc-", "resent-", "x-mailwright-")


def check_header_value(name: str, value: str) -> str:
    """Return `value`; raises InvalidInput when it holds a line break, NUL or control character."""
    if _CONTROL.search(value):
        raise InvalidInput(
            f"The header {name} holds a line break or control character.",
            code="header-injection",
            field=name.lower(),
        )
    if len(value) > MAX_HEADER_VALUE:
        raise InvalidInput(
            f"The header {name} is too long.", code="header-long", field=name.lower()
        )
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"The header {name} holds half of a character pair.", code="header-invalid"
        ) from error
    return value


def check_custom_header(name: str, value: str) -> None:
    """Raise InvalidInput unless a tenant may set this header to this value."""
    if not _NAME.match(name):
        raise InvalidInput(
            "A header's name has letters, digits and hyphens.", code="header-name", field="headers"
        )
    lower = name.lower()
    if lower in RESERVED or lower.startswith(_RESERVED_PREFIXES):
        raise InvalidInput(
            f"The header {name} is written by the service and cannot be set.",
            code="header-reserved",
            field="headers",
        )
    check_header_value(name, value)


def encode_words(text: str, *, first: int) -> list[str]:
    """Return RFC 2047 encoded words of at most 75 characters; `first` is the room on line one."""
    room = _word_bytes(min(first, 75))
    whole = text.encode()
    if len(whole) <= room:
        return [_word(whole)]
    words: list[str] = []
    chunk = b""
    for char in text:
        encoded = char.encode()
        if chunk and len(chunk) + len(encoded) > room:
            words.append(_word(chunk))
            chunk, room = b"", _word_bytes(75)
        chunk += encoded
    return [*words, _word(chunk)]


def _word_bytes(width: int) -> int:
    return max((width - 12) // 4 * 3, 3)  # "=?utf-8?B?" and "?=" take 12


def _word(chunk: bytes) -> str:
    return f"=?utf-8?B?{base64.b64encode(chunk).decode()}?="


def fold(name: str, tokens: Sequence[str]) -> str:
    """Join tokens by a space, or by a fold where the line would pass 78 characters."""
    line, lines = f"{name}:", []
    for token in tokens:
        if len(line) + 1 + len(token) > FOLD and line.strip() and line != f"{name}:":
            lines.append(line)
            line = ""
        line += f" {token}"
    return "\r\n".join([*lines, line])


def unstructured(name: str, value: str) -> str:
    """Return the folded header line of a free text (no CRLF at its end)."""
    check_header_value(name, value)
    plain = value.isascii() and not _LOOKS_ENCODED.search(value) and "  " not in value
    plain = plain and value == value.strip()
    if plain and all(len(word) <= MAX_LINE - 100 for word in value.split(" ")):
        return fold(name, value.split(" ")) if value else f"{name}: "
    return fold(name, encode_words(value, first=FOLD - len(name) - 2))


def _phrase(display: str) -> list[str]:
    """Return a display name as tokens: atoms, a quoted string, or encoded words."""
    if _LOOKS_ENCODED.search(display) or not display.isascii() or len(display) > 60:
        return encode_words(display, first=50)
    if _ATEXT_PHRASE.match(display) and "  " not in display and display == display.strip():
        return display.split(" ")
    escaped = display.replace("\\", "\\\\").replace('"', '\\"')
    return [f'"{escaped}"']


def address_header(name: str, addresses: Sequence[Address]) -> str:
    """Return the folded header line of one or more addresses; domains are A-labels."""
    tokens: list[str] = []
    for address in addresses:
        *phrase, mailbox = _mailbox(name, address.display, address)
        tokens += [*phrase, f"{mailbox},"]
    tokens[-1] = tokens[-1].removesuffix(",")
    return fold(name, tokens)


def _mailbox(name: str, display: str, address: Address) -> list[str]:
    """Return the tokens of one address with the name `display`."""
    mailbox = address.addr_spec
    check_header_value(name, display)
    check_header_value(name, mailbox)
    if not address.domain_ascii.isascii() or _NOT_IN_MAILBOX(mailbox):
        raise InvalidInput(f"The header {name} holds a malformed address.", field=name.lower())
    return [*_phrase(display), f"<{mailbox}>"] if display else [mailbox]


def recipient_line(display: str, address: Address) -> str:
    """Return the To line of one recipient, whose name is `display`."""
    if not address.local.isascii():
        raise InvalidInput("An address needs SMTPUTF8, which is not sent.", code="address-smtputf8")
    mailbox = address.addr_spec
    line = f"To: {display} <{mailbox}>" if display else f"To: {mailbox}"
    if (
        len(line) <= FOLD
        and _PLAIN_MAILBOX(mailbox)
        and (not display or (_PLAIN_PHRASE(display) and len(display) <= 60 and "=?" not in display))
    ):
        return line
    return fold("To", _mailbox("To", display, address))


def subject_line(subject: str) -> str:
    """Return the Subject line."""
    if len(subject) <= FOLD - 9 and _PLAIN_TEXT(subject) and "=?" not in subject:
        return f"Subject: {subject}"
    return unstructured("Subject", subject)


@lru_cache(maxsize=1024)
def plain_line(name: str, value: str) -> str:
    """Return the line of a value that many messages share."""
    return unstructured(name, value)


@lru_cache(maxsize=4096)
def date_line(seconds: int) -> str:
    """Return the Date line of a moment in Unix seconds; messages of a batch share few."""
    return f"Date: {format_datetime(dt.datetime.fromtimestamp(seconds, dt.UTC))}"


def message_id_line(message_id: str) -> str:
    """Return the Message-ID line of `<left@right>`."""
    if _PLAIN_ID(message_id):
        return f"Message-ID: {message_id}"
    if not _MESSAGE_ID.match(check_header_value("Message-ID", message_id)):
        raise InvalidInput("The Message-ID is malformed.", code="header-invalid")
    return f"Message-ID: {message_id}"


def unsubscribe_line(urls: Sequence[str]) -> str:
    """Return the List-Unsubscribe line (RFC 2369) of URLs in their order."""
    if len(urls) == 2 and _PLAIN_URL(urls[0]) and _PLAIN_URL(urls[1]):
        line = f"List-Unsubscribe: <{urls[0]}>,"
        gap = " " if len(line) + len(urls[1]) + 3 <= FOLD else "\r\n "
        return f"{line}{gap}<{urls[1]}>"
    for url in urls:
        check_header_value("List-Unsubscribe", url)
        if not re.match(r"(https?|mailto):[^<>,\s]+\Z", url) or len(url) > 900:
            raise InvalidInput("An unsubscribe address is not a URL.", code="header-invalid")
    tokens = [f"<{url}>{',' if i < len(urls) - 1 else ''}" for i, url in enumerate(urls)]
    return fold("List-Unsubscribe", tokens)
