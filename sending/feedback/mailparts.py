"""Take an incoming mail apart without trusting anything in it.

Bounce mails are often broken MIME, and anybody may send us anything: so this is a splitter of our
own, linear in the size of the mail, that never raises and never nests deeper than it is told. Only
the head of a mail is read: reports stand in front, and what follows is our own message.
"""

from __future__ import annotations

import base64
import binascii
import quopri
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.errors import HeaderParseError
from email.header import decode_header

MAX_READ = 512 * 1024
_MAX_DEPTH = 6
_MAX_PARTS = 60
_MAX_FIELDS = 400
_BLANK = re.compile(rb"\n[ \t]*\n")
_FIELD = re.compile(r"([!-9;-~]{1,100})[ \t]*:[ \t]*(.*)", re.DOTALL)
_PARAMETER = re.compile(r'(?:\A|[;\s])([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]+))')


@dataclass(frozen=True, slots=True)
class Part:
    """A leaf of the MIME tree, or an embedded message: its type, its headers, its decoded text."""

    content_type: str
    headers: dict[str, str]
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Mail:
    """The outer headers (names in lower case, the first of each) and the parts in order."""

    headers: dict[str, str]
    content_type: str
    report_type: str
    parts: tuple[Part, ...]

    def header(self, name: str) -> str:
        """Return a header's value, encoded words decoded, or ""."""
        return readable(self.headers.get(name, ""))

    @property
    def text(self) -> str:
        """The words for people: text parts in front of the quoted message, else HTML's words."""
        texts = [part.text for part in self.parts if part.content_type == "text/plain"]
        if not any(text.strip() for text in texts):
            html = [part.text for part in self.parts if part.content_type == "text/html"]
            texts = [strip_tags(text) for text in html]
        return "\n".join(texts)


def read_mail(raw: bytes) -> Mail:
    """Return `raw` (at most its first 512 KiB) in parts; never raises."""
    data = raw[:MAX_READ].replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\x00", b"")
    data = data.lstrip(b"\n")
    if data.startswith(b"From "):  # a line that mailbox files put in front
        data = data.partition(b"\n")[2]
    headers, body = _split(data)
    content_type, parameters = parse_content_type(headers.get("content-type", ""))
    parts: list[Part] = []
    for part in _walk(headers, body, depth=0):
        parts.append(part)
        if len(parts) >= _MAX_PARTS:
            break
    return Mail(headers, content_type, parameters.get("report-type", "").lower(), tuple(parts))


def _split(data: bytes) -> tuple[dict[str, str], bytes]:
    if data.startswith(b"\n"):
        return {}, data[1:]
    match = _BLANK.search(data)
    head, body = (data, b"") if match is None else (data[: match.start()], data[match.end() :])
    return parse_fields(as_text(head)), body


def parse_fields(text: str) -> dict[str, str]:
    """Return header fields by lower-case name, unfolded; the first of each name wins."""
    fields: dict[str, str] = {}
    for name, value in list_fields(text):
        fields.setdefault(name, value)
    return fields


def list_fields(text: str) -> list[tuple[str, str]]:
    """Return all header fields in order, names in lower case, values unfolded."""
    found: list[tuple[str, list[str]]] = []
    for line in text.split("\n"):
        if line[:1] in (" ", "\t") and found:
            found[-1][1].append(line.strip())
            continue
        match = _FIELD.match(line)
        if match is not None and len(found) < _MAX_FIELDS:
            found.append((match.group(1).lower(), [match.group(2).strip()]))
    return [(name, " ".join(lines).strip()) for name, lines in found]


def parse_content_type(value: str) -> tuple[str, dict[str, str]]:
    """Return the type in lower case ("text/plain" where there is none) and its parameters."""
    kind, _, rest = value[:2000].partition(";")
    parameters = {
        match.group(1).lower(): re.sub(r"\\(.)", r"\1", match.group(2) or match.group(3) or "")
        for match in _PARAMETER.finditer(rest)
    }
    return kind.strip().lower() or "text/plain", parameters


def _walk(headers: dict[str, str], body: bytes, *, depth: int) -> Iterator[Part]:
    content_type, parameters = parse_content_type(headers.get("content-type", ""))
    boundary = parameters.get("boundary", "")
    if content_type.startswith("multipart/") and boundary and depth < _MAX_DEPTH:
        pieces = _pieces(body, boundary.encode("utf-8", "replace"))
        if pieces:
            for piece in pieces:
                yield from _walk(*_split(piece), depth=depth + 1)
            return
        content_type = "text/plain"  # the boundary never comes: read the words
    decoded = decode_body(body, headers.get("content-transfer-encoding", ""))
    yield Part(content_type, headers, as_text(decoded, parameters.get("charset", "")))


def _pieces(body: bytes, boundary: bytes) -> list[bytes]:
    """Return the parts between boundary lines; what stands before the first is left out."""
    mark = re.compile(rb"(?:\A|\n)--" + re.escape(boundary) + rb"(--)?[ \t]*(?=\n|\Z)")
    pieces: list[bytes] = []
    start: int | None = None
    for match in mark.finditer(body):
        if start is not None:
            pieces.append(body[start : match.start()])
        start = None if match.group(1) else match.end() + 1
        if len(pieces) >= _MAX_PARTS:
            return pieces
    if start is not None and start < len(body):
        pieces.append(body[start:])
    return pieces


def decode_body(body: bytes, encoding: str) -> bytes:
    """Undo a transfer encoding as far as possible."""
    encoding = encoding.strip().lower()
    if encoding == "base64":
        letters = re.sub(rb"[^A-Za-z0-9+/]", b"", body)
        letters = letters[: len(letters) // 4 * 4 + (len(letters) % 4 > 1) * (len(letters) % 4)]
        try:
            return base64.b64decode(letters + b"=" * (-len(letters) % 4))
        except (binascii.Error, ValueError):
            return body
    if encoding == "quoted-printable":
        return quopri.decodestring(body)
    return body


def as_text(data: bytes, charset: str = "") -> str:
    """Return `data` as text: in its charset, else UTF-8, with marks for what is broken."""
    try:
        text = data.decode(charset or "utf-8", "replace")
    except (LookupError, ValueError):
        text = data.decode("utf-8", "replace")
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def readable(value: str) -> str:
    """Return a header's value with its encoded words (RFC 2047) decoded; never raises."""
    if "=?" not in value:
        return value
    words = []
    try:
        for word, charset in decode_header(value[:2000]):
            words.append(as_text(word, charset or "") if isinstance(word, bytes) else word)
    except (HeaderParseError, ValueError, binascii.Error):
        return value
    return "".join(words)


def strip_tags(html: str) -> str:
    """Return an HTML part's words, a line a block; good enough to look for addresses."""
    html = re.sub(r"(?i)<(?:br|p|div|tr|li|h\d)\b[^<>]{0,500}>", "\n", html)
    html = re.sub(r"</?[a-zA-Z!][^<>@]{0,2000}>", " ", html)
    for entity, char in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&#64;", "@")):
        html = html.replace(entity, char)
    return html.replace("&nbsp;", " ").replace("&amp;", "&")
