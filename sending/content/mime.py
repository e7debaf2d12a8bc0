"""MIME bodies, assembled by hand (RFC 2045, 2046, 2231): everything around the texts of a message.

What surrounds the texts, attachments included, is the same for all messages of a content, and is
made once for them: the Frame.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from esp.lib.errors import InvalidInput
from sending.content.headers import check_header_value, fold

CRLF = "\r\n"

_CONTENT_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+\-]+/[A-Za-z0-9!#$&^_.+\-]+\Z")
_CONTENT_ID = re.compile(r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~.@]{1,200}\Z")
_TOKEN = re.compile(r"[A-Za-z0-9!#$&+.^_`{}~\-]+\Z")
_SEED = re.compile(r"[A-Za-z0-9]{8,50}\Z")
_HOLE = "\0"  # where a text goes; no body that we make holds a NUL


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file of the message; with `content_id` it is shown inside the HTML as `cid:<id>`."""

    filename: str
    content: bytes
    content_type: str = "application/octet-stream"
    content_id: str | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """A body but for its texts: `headers` of the message, and what stands around the texts.

    Without HTML, `between` is empty and the text alone stands between `before` and `after`.
    """

    headers: tuple[str, ...]
    before: str
    between: str
    after: str


@dataclass(frozen=True, slots=True)
class _Part:
    headers: tuple[str, ...]
    body: str


def frame(
    *, text_encoding: str, html_encoding: str | None, attachments: Sequence[Attachment], seed: str
) -> Frame:
    """Return the frame of messages with a text, perhaps HTML, and files.

    text and html become multipart/alternative; attachments with a `content_id` go with the HTML
    into multipart/related, others into multipart/mixed around it all. The boundaries are made from
    `seed`; they begin with "=_", which neither quoted-printable nor base64 can hold, so they need
    not differ from message to message. Raises InvalidInput for a file that cannot be named.
    """
    if not _SEED.match(seed):
        raise ValueError("a boundary seed has 8 to 50 letters and digits")
    inline = [_attachment_part(a) for a in attachments if a.content_id]
    files = [_attachment_part(a) for a in attachments if not a.content_id]
    body = _hole("plain", text_encoding)
    if html_encoding is None:
        files = inline + files
    else:
        html = _hole("html", html_encoding)
        if inline:
            html = _multipart("related", [html, *inline], f"=_r{seed}", ' type="text/html";')
        body = _multipart("alternative", [body, html], f"=_a{seed}")
    if files:
        body = _multipart("mixed", [body, *files], f"=_m{seed}")
    pieces = body.body.split(_HOLE)
    return Frame(body.headers, pieces[0], "".join(pieces[1:-1]), pieces[-1])


def _hole(subtype: str, encoding: str) -> _Part:
    headers = (
        f"Content-Type: text/{subtype}; charset=utf-8",
        f"Content-Transfer-Encoding: {encoding}",
    )
    return _Part(headers, _HOLE)


def base64_lines(data: bytes) -> str:
    """Return base64 in lines of 76 characters (57 bytes each)."""
    encoded = base64.b64encode(data).decode("ascii")
    return CRLF.join(encoded[i : i + 76] for i in range(0, len(encoded), 76))


def _parameter(name: str, value: str) -> list[str]:
    """Return a MIME parameter as one or more `name=value` tokens (RFC 2231 where needed)."""
    if value.isascii() and len(value) <= 50:
        if _TOKEN.match(value):
            return [f"{name}={value}"]
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return [f'{name}="{escaped}"']
    pieces, current = [], ""
    for char in value:
        quoted = char if char.isascii() and char.isalnum() else _percent(char)
        if len(current) + len(quoted) > 54:
            pieces.append(current)
            current = ""
        current += quoted
    pieces.append(current)
    if len(pieces) == 1:
        return [f"{name}*=utf-8''{pieces[0]}"]
    tokens = [f"{name}*0*=utf-8''{pieces[0]};"]
    tokens += [f"{name}*{i}*={piece};" for i, piece in enumerate(pieces[1:], 1)]
    tokens[-1] = tokens[-1].rstrip(";")
    return tokens


def _percent(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode())


def _attachment_part(attachment: Attachment) -> _Part:
    name = check_header_value("filename", attachment.filename).strip()
    name = name.replace("\\", "/").rpartition("/")[2].strip() or "attachment"
    if len(name) > 255:
        raise InvalidInput("A file name has more than 255 characters.", field="attachments")
    kind = attachment.content_type.strip().lower()
    if not _CONTENT_TYPE.match(kind) or kind.startswith(("multipart/", "message/")):
        raise InvalidInput(f"'{kind[:80]}' is not a content type for a file.", field="attachments")
    disposition = "inline" if attachment.content_id else "attachment"
    headers = [
        fold("Content-Type", [f"{kind};", *_parameter("name", name)]),
        "Content-Transfer-Encoding: base64",
        fold("Content-Disposition", [f"{disposition};", *_parameter("filename", name)]),
    ]
    if attachment.content_id:
        if not _CONTENT_ID.match(attachment.content_id):
            raise InvalidInput("A content id holds letters, digits and dots.", field="attachments")
        headers.append(f"Content-ID: <{attachment.content_id}>")
    return _Part(tuple(headers), base64_lines(attachment.content))


def _multipart(subtype: str, parts: Sequence[_Part], boundary: str, extra: str = "") -> _Part:
    pieces: list[str] = []
    for part in parts:
        pieces += [f"--{boundary}", *part.headers, "", part.body]
    pieces += [f"--{boundary}--", ""]
    header = f'Content-Type: multipart/{subtype};{extra} boundary="{boundary}"'
    return _Part((header,), CRLF.join(pieces))
