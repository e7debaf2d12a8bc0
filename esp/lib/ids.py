"""Identifiers: UUIDv7 inside, `prefix_` + 26 base32 characters outside.

The outside form uses lower-case Crockford base32, which is case-insensitive on reading, so that
it survives in the local part of a mail address (some servers fold its case).
"""

from __future__ import annotations

import datetime as dt
import uuid
from functools import lru_cache

import uuid_utils

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {char: value for value, char in enumerate(_ALPHABET)}
_VALUES |= {char.upper(): value for char, value in _VALUES.items()}
_PAIRS = tuple(first + second for first in _ALPHABET for second in _ALPHABET)  # of 10 bits
_DIGIT = (1 << 30) - 1
_LENGTH = 26  # 26 characters of 5 bits hold 130 bits: the first character is at most "7"


def new_id() -> uuid.UUID:
    """Return a fresh UUIDv7 (RFC 9562 section 5.7): sortable by the millisecond of its making."""
    return uuid.UUID(int=uuid_utils.uuid7().int)


def new_id_bytes() -> bytes:
    """Return the 16 bytes of a fresh id, for who writes many and reads none."""
    value: bytes = uuid_utils.uuid7().bytes
    return value


def as_text(value: uuid.UUID) -> str:
    """Return `str(value)`, remembered: for what many messages share (their batch, their tenant)."""
    return _text(value.int)


@lru_cache(maxsize=4096)
def _text(number: int) -> str:
    """By the number, because a UUID's hash and comparison are calls of their own."""
    return str(uuid.UUID(int=number))


def encode(value: uuid.UUID) -> str:
    """Return the 26 characters for `value`."""
    number = value.int
    # By 30 bits, which Python has in one digit: sums of 128 are much slower.
    first, second = number >> 90 & _DIGIT, number >> 60 & _DIGIT
    third, fourth = number >> 30 & _DIGIT, number & _DIGIT
    pairs = _PAIRS
    return (
        f"{pairs[number >> 120]}"
        f"{pairs[first >> 20]}{pairs[first >> 10 & 1023]}{pairs[first & 1023]}"
        f"{pairs[second >> 20]}{pairs[second >> 10 & 1023]}{pairs[second & 1023]}"
        f"{pairs[third >> 20]}{pairs[third >> 10 & 1023]}{pairs[third & 1023]}"
        f"{pairs[fourth >> 20]}{pairs[fourth >> 10 & 1023]}{pairs[fourth & 1023]}"
    )


def decode(text: str) -> uuid.UUID:
    """Return the UUID that `encode` wrote as `text`; raises ValueError for anything else."""
    if len(text) != _LENGTH:
        raise ValueError("an identifier has 26 characters after its prefix")
    number = 0
    for char in text:
        value = _VALUES.get(char)
        if value is None:
            raise ValueError(f"the character {char!r} cannot stand in an identifier")
        number = (number << 5) | value
    if number >> 128:
        raise ValueError("the identifier is out of range")
    return uuid.UUID(int=number)


def to_public(prefix: str, value: uuid.UUID) -> str:
    """Return the form that users see, for example `msg_01h455vb4pex5vsknk084sn02q`."""
    return f"{prefix}_{encode(value)}"


def from_public(prefix: str, text: str) -> uuid.UUID:
    """Return the UUID in `text`; raises ValueError when prefix or characters are wrong."""
    head, separator, tail = text.partition("_")
    if head != prefix or not separator:
        raise ValueError(f"an identifier of this kind begins with '{prefix}_'")
    return decode(tail)


def lower_bound(moment: dt.datetime) -> uuid.UUID:
    """Return the smallest UUIDv7 that can be made at `moment` (aware): a partition boundary."""
    milliseconds = int(moment.timestamp() * 1000)
    return uuid.UUID(int=(milliseconds << 80) | (7 << 76) | (2 << 62))


def made_at(value: uuid.UUID) -> dt.datetime:
    """Return the moment in a UUIDv7, to the millisecond, in UTC."""
    return dt.datetime.fromtimestamp((value.int >> 80) / 1000, tz=dt.UTC)
