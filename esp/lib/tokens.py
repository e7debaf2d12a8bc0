"""Signed tokens for URLs and mail addresses: what they mean stands in them, under a MAC.

HMAC-SHA256 cut to 128 bits (RFC 2104 section 5), bound to a purpose, so that a token for one door
opens no other. Keys rotate: sign with the newest, accept each of the list.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

MAC_LENGTH = 16
_MAX_TOKEN = 4_096
_EXPIRES = 1


class BadToken(ValueError):
    """The token is malformed, forged, or made for another purpose."""


class ExpiredToken(BadToken):
    """The token was good until its time ran out."""


def _mac(key: bytes, purpose: str, body: bytes) -> bytes:
    # the length keeps purpose and body from sliding into each other
    label = purpose.encode()
    message = struct.pack(">H", len(label)) + label + body
    return hmac.digest(key, message, hashlib.sha256)[:MAC_LENGTH]


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    if not text or len(text) > _MAX_TOKEN or not text.isascii():
        raise BadToken("the token is malformed")
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadToken("the token is malformed") from error
    if _encode(data) != text:  # one token has one spelling
        raise BadToken("the token is malformed")
    return data


def _check_key(key: bytes) -> None:
    if len(key) < 16:
        raise ValueError("a token key has at least 16 bytes")


def seal(key: bytes, purpose: str, payload: bytes, *, expires: int | None) -> str:
    """Return a URL-safe token that carries `payload` (readable, not secret).

    `expires` is a Unix time in seconds, or None for a token without end.
    """
    _check_key(key)
    body = b"\x00" + payload
    if expires is not None:
        body = struct.pack(">BQ", _EXPIRES, expires) + payload
    return _encode(body + _mac(key, purpose, body))


def unseal(
    keys: bytes | Sequence[bytes], purpose: str, token: str, *, now: float | None = None
) -> bytes:
    """Return the payload of a token that one of `keys` sealed for `purpose`.

    Raises BadToken, or ExpiredToken (`now` is a Unix time; the clock's where None).
    """
    data = _decode(token)
    if len(data) <= MAC_LENGTH:
        raise BadToken("the token is malformed")
    body, mac = data[:-MAC_LENGTH], data[-MAC_LENGTH:]
    _verify([keys] if isinstance(keys, bytes) else keys, purpose, body, mac)
    if body[0] == 0:
        return body[1:]
    if body[0] != _EXPIRES or len(body) < 9:
        raise BadToken("the token is malformed")
    if (time.time() if now is None else now) >= struct.unpack(">Q", body[1:9])[0]:
        raise ExpiredToken("the token has expired")
    return body[9:]


def _verify(keys: Sequence[bytes], purpose: str, body: bytes, mac: bytes) -> None:
    for key in keys:
        _check_key(key)
        if hmac.compare_digest(_mac(key, purpose, body), mac):
            return
    raise BadToken("the token is not ours")


class TrackKind(IntEnum):
    """What a tracking token stands for."""

    OPEN = 1
    CLICK = 2
    UNSUBSCRIBE = 3
    PREFERENCES = 4
    VIEW = 5


_TRACK = struct.Struct(">16s16sBH")
_TRACK_PURPOSE = "track"


@dataclass(frozen=True, slots=True)
class TrackToken:
    """One reader's link: 51 bytes with its MAC, 68 characters. `link_index` is for clicks."""

    tenant_id: uuid.UUID
    message_id: uuid.UUID
    kind: TrackKind
    link_index: int = 0

    def pack(self, key: bytes) -> str:
        """Return the token's 68 characters; it has no end (an unsubscribe link must work on)."""
        body = _TRACK.pack(
            self.tenant_id.bytes, self.message_id.bytes, int(self.kind), self.link_index
        )
        return _encode(body + _mac(key, _TRACK_PURPOSE, body))

    @classmethod
    def unpack(cls, keys: bytes | Sequence[bytes], text: str) -> TrackToken:
        """Return the token in `text`; raises BadToken."""
        data = _decode(text)
        if len(data) != _TRACK.size + MAC_LENGTH:
            raise BadToken("the token is malformed")
        body, mac = data[: _TRACK.size], data[_TRACK.size :]
        _verify([keys] if isinstance(keys, bytes) else keys, _TRACK_PURPOSE, body, mac)
        tenant, message, kind, link_index = _TRACK.unpack(body)
        try:
            known = TrackKind(kind)
        except ValueError as error:
            raise BadToken("the token is of an unknown kind") from error
        return cls(uuid.UUID(bytes=tenant), uuid.UUID(bytes=message), known, link_index)
