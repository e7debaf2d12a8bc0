"""Checks a request to send, field by field, and gives it the form that is stored.

Pure checks: no query, no native code. Every refusal names the field as the API calls it.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import orjson

from esp.lib.addresses import Address, parse_address
from esp.lib.errors import DomainError, InvalidInput
from esp.lib.ids import from_public
from sending.content.guard import check_size
from sending.content.headers import check_custom_header
from sending.content.liquid import check_syntax
from sending.content.protect import protect
from sending.content.types import ContentSource
from sending.messages.models import Stream
from sending.messages.types import Attachment, Recipient, SendRequest

MAX_RECIPIENTS: Final = 1000
# A sign-in code is of use for minutes; what is longer than the stream is patient has no effect.
MIN_TTL, MAX_TTL = 30, 7 * 86400
MAX_HORIZON: Final = dt.timedelta(days=30)
MAX_VARIABLES_BYTES: Final = 16 * 1024
MAX_METADATA_BYTES: Final = 4 * 1024
MAX_HEADERS: Final = 30
MAX_HEADER_VALUE: Final = 900  # RFC 5322 2.1.1: a line has 998 characters at most
MAX_TAGS: Final = 10
MAX_TAG: Final = 64
MAX_NAME: Final = 100
MAX_RECIPIENT_NAME: Final = 200
MAX_SUBJECT: Final = 998
MAX_ATTACHMENTS: Final = 20
# Decoded; base64 makes it 13.4 MB, and receivers refuse messages of more than 20 to 25 MB.
MAX_ATTACHMENT_BYTES: Final = 10 * 1024 * 1024

_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_NUL_ESCAPE = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_CONTENT_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,62}/[a-z0-9][a-z0-9!#$&^_.+-]{0,62}\Z")
_CONTENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}\Z")


@dataclass(frozen=True, slots=True)
class CheckedRecipient:
    """A recipient whose address is one."""

    address: Address
    name: str
    variables: str  # JSON
    contact_id: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class CheckedRequest:
    """A request in which everything is in order that one can see without the database."""

    sender: Address
    from_name: str
    reply_to: str
    recipients: tuple[CheckedRecipient, ...]
    due_at: dt.datetime
    ttl_seconds: int | None
    headers: dict[str, str]
    attachments: list[dict[str, str]]
    tags: list[str]
    metadata: str  # JSON
    template_id: uuid.UUID | None


def check_request(request: SendRequest, *, now: dt.datetime) -> CheckedRequest:
    """Return the checked form of `request`; raises InvalidInput that names the field at fault."""
    if request.stream not in Stream.values:
        raise InvalidInput("The stream is transactional or broadcast.", field="stream")
    if (request.source is None) == (not request.template_id):
        raise InvalidInput(
            "Give the content as html, mjml or text, or name a template: one of these.",
            code="content-missing",
            field="html",
        )
    _check_line(request.subject, "subject", MAX_SUBJECT)
    from_name = _check_line(request.from_name, "from.name", MAX_NAME).strip()
    return CheckedRequest(
        sender=_address(request.from_email, "from.email"),
        from_name=from_name,
        reply_to=_address(request.reply_to, "reply_to").addr_spec if request.reply_to else "",
        recipients=tuple(_recipients(request.recipients)),
        due_at=_due_at(request.send_at, now),
        ttl_seconds=_ttl(request.ttl_seconds),
        headers=_headers(request.headers),
        attachments=_attachments(request.attachments),
        tags=_tags(request.tags),
        metadata=_json(request.metadata, "metadata", MAX_METADATA_BYTES),
        template_id=_template_id(request.template_id),
    )


def check_source(source: ContentSource) -> None:
    """Raise ContentError for what its author can mend: size, Liquid, depth.

    Only the linear checks in pure Python: native compilers meet the content in a worker.
    """
    for field, part in {
        "subject": source.subject,
        "preview_text": source.preview_text,
        "body": source.body,
        "text_body": source.text_body or "",
    }.items():
        with content_field(source, field):
            check_size(part)
            check_syntax(part)
    if source.kind != "text":
        with content_field(source, "body"):
            protect(source.body, mjml=source.kind == "mjml")


@contextmanager
def content_field(source: ContentSource, part: str) -> Iterator[None]:
    """Let refusals of a part of the content name the request's field that it came from."""
    try:
        yield
    except DomainError as error:
        error.field = source_field(source, part)
        raise


def source_field(source: ContentSource, part: str) -> str:
    """Return how the API calls `part` of a content source."""
    if part == "body":
        return source.kind
    return "text" if part == "text_body" else part


def _check_line(text: str, field: str, limit: int) -> str:
    """Return `text`, one line without control characters: nothing can begin a header of its own."""
    if _CONTROL.search(text) or _SURROGATE.search(text):
        raise InvalidInput(
            "Line breaks and control characters cannot stand here.",
            code="control-character",
            field=field,
        )
    if len(text) > limit:
        raise InvalidInput(f"This may have {limit} characters.", code="too-long", field=field)
    return text


def _address(text: str, field: str) -> Address:
    try:
        return parse_address(text, allow_display=False)
    except InvalidInput as error:
        error.field = field
        raise


def _recipients(recipients: tuple[Recipient, ...]) -> Iterator[CheckedRecipient]:
    if not recipients:
        raise InvalidInput("Name at least one recipient.", code="recipients-missing", field="to")
    if len(recipients) > MAX_RECIPIENTS:
        raise InvalidInput(
            f"A request has {MAX_RECIPIENTS:,} recipients at most; this one has "
            f"{len(recipients):,}. Send several requests.",
            code="too-many-recipients",
            field="to",
        )
    for index, recipient in enumerate(recipients):
        path = f"to[{index}]"
        yield CheckedRecipient(
            address=_address(recipient.email, f"{path}.email"),
            name=_check_line(recipient.name, f"{path}.name", MAX_RECIPIENT_NAME).strip(),
            variables=_json(recipient.variables, f"{path}.variables", MAX_VARIABLES_BYTES),
            contact_id=recipient.contact_id,
        )


def _json(value: Mapping[str, object], field: str, limit: int) -> str:
    """Return JSON that PostgreSQL takes (jsonb knows no NUL), not longer than `limit` bytes."""
    try:
        data = orjson.dumps(dict(value), option=orjson.OPT_SORT_KEYS)
    except (TypeError, orjson.JSONEncodeError) as error:
        raise InvalidInput(
            "A value here is no plain JSON: numbers have 64 bits, texts are Unicode.",
            code="not-json",
            field=field,
        ) from error
    if _NUL_ESCAPE.search(data):
        raise InvalidInput(
            "NUL characters cannot stand here.", code="control-character", field=field
        )
    if len(data) > limit:
        raise InvalidInput(
            f"This may have {limit // 1024} KB as JSON; it has {len(data) // 1024 + 1}.",
            code="too-large",
            field=field,
        )
    return data.decode()


def _ttl(seconds: int | None) -> int | None:
    if seconds is not None and not MIN_TTL <= seconds <= MAX_TTL:
        text = f"Give a time to live between {MIN_TTL} seconds and {MAX_TTL} (a week)."
        raise InvalidInput(text, code="ttl-out-of-range", field="ttl_seconds")
    return seconds


def _due_at(send_at: dt.datetime | None, now: dt.datetime) -> dt.datetime:
    if send_at is None:
        return now
    if send_at.tzinfo is None:
        raise InvalidInput("Give the time with its zone.", code="no-zone", field="send_at")
    # A request that was on its way for a while asks for "now".
    if send_at < now - dt.timedelta(minutes=5):
        raise InvalidInput("This time has passed.", code="in-the-past", field="send_at")
    if send_at > now + MAX_HORIZON:
        raise InvalidInput(
            f"Messages can be scheduled {MAX_HORIZON.days} days ahead at most.",
            code="too-far-ahead",
            field="send_at",
        )
    return max(send_at, now)


def _headers(headers: Mapping[str, str]) -> dict[str, str]:
    if len(headers) > MAX_HEADERS:
        raise InvalidInput(
            f"A message may have {MAX_HEADERS} headers of its own.",
            code="too-many-headers",
            field="headers",
        )
    seen: set[str] = set()
    for name, value in headers.items():
        field = f"headers.{name[:80]}"
        try:
            check_custom_header(name, value)
        except InvalidInput as error:
            error.field = field
            raise
        if name.lower() in seen:
            raise InvalidInput("This header stands twice.", code="header-twice", field=field)
        seen.add(name.lower())
        _check_line(value, field, MAX_HEADER_VALUE)
    return dict(headers)


def _tags(tags: Iterable[str]) -> list[str]:
    kept = list(dict.fromkeys(tag.strip() for tag in tags))
    if len(kept) > MAX_TAGS:
        raise InvalidInput(
            f"A message may have {MAX_TAGS} tags.", code="too-many-tags", field="tags"
        )
    for index, tag in enumerate(kept):
        if not tag:
            raise InvalidInput("A tag is not empty.", code="blank", field=f"tags[{index}]")
        _check_line(tag, f"tags[{index}]", MAX_TAG)
    return kept


def _attachments(attachments: tuple[Attachment, ...]) -> list[dict[str, str]]:
    if len(attachments) > MAX_ATTACHMENTS:
        raise InvalidInput(
            f"A message may have {MAX_ATTACHMENTS} attachments.",
            code="too-many-attachments",
            field="attachments",
        )
    total = 0
    kept = []
    for index, attachment in enumerate(attachments):
        entry, size = _attachment(attachment, f"attachments[{index}]")
        total += size
        if total > MAX_ATTACHMENT_BYTES:
            raise InvalidInput(
                f"Attachments may have {MAX_ATTACHMENT_BYTES // 1024**2} MB together.",
                code="too-large",
                field=f"attachments[{index}]",
            )
        kept.append(entry)
    return kept


def _attachment(attachment: Attachment, path: str) -> tuple[dict[str, str], int]:
    filename = _check_line(attachment.filename, f"{path}.filename", 200).strip()
    if not filename or "/" in filename or "\\" in filename:
        raise InvalidInput(
            "Give a file name without a folder.", code="filename", field=f"{path}.filename"
        )
    content_type = attachment.content_type.lower()
    if not _CONTENT_TYPE.match(content_type) or content_type.startswith(("multipart/", "message/")):
        raise InvalidInput(
            "Give a media type such as application/pdf.",
            code="content-type",
            field=f"{path}.content_type",
        )
    if attachment.content_id and not _CONTENT_ID.match(attachment.content_id):
        raise InvalidInput(
            "A content id has letters, digits, dots, hyphens and @.",
            code="content-id",
            field=f"{path}.content_id",
        )
    try:
        size = len(base64.b64decode(attachment.content, validate=True))
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(
            "The content is not base64.", code="not-base64", field=f"{path}.content"
        ) from error
    return {
        "filename": filename,
        "content_type": content_type,
        "content": attachment.content,
        "content_id": attachment.content_id,
    }, size


def _template_id(text: str) -> uuid.UUID | None:
    if not text:
        return None
    try:
        return from_public("tpl", text)
    except ValueError as error:
        raise InvalidInput(
            "There is no template with this id.", code="template-unknown", field="template_id"
        ) from error
