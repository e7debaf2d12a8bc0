"""Addresses that carry a message's id under a MAC: return path, unsubscribe mail, feedback.

`b.<id>.<mac>@domain` is where bounces of one message come back to (VERP), `u.<id>.<mac>@domain`
unsubscribes its recipient. Everything in them survives folding of case. The MAC is HMAC-SHA256 cut
to 32 bits: guessing is online only (every guess is a mail to us), and a hit lets a stranger bounce
or unsubscribe one message whose id, 74 random bits, he must know already.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from esp.lib import ids

Purpose = Literal["bounce", "unsubscribe"]

_LETTERS: dict[Purpose, str] = {"bounce": "b", "unsubscribe": "u"}
_PURPOSES: dict[str, Purpose] = {letter: purpose for purpose, letter in _LETTERS.items()}
_LOCAL_PART = re.compile(r"([bu])\.([0-9a-z]{26})\.([0-9a-f]{8})", re.IGNORECASE)

FEEDBACK_LOCAL_PART = "fbl"


@dataclass(frozen=True, slots=True)
class Decoded:
    """What an address of ours means."""

    purpose: Purpose
    message_id: uuid.UUID


def return_path(message_id: uuid.UUID, *, key: bytes, domain: str) -> str:
    """Return the envelope sender of a message."""
    return _encode("bounce", message_id, key, domain)


def unsubscribe_address(message_id: uuid.UUID, *, key: bytes, domain: str) -> str:
    """Return the address for List-Unsubscribe's mailto (RFC 2369)."""
    return _encode("unsubscribe", message_id, key, domain)


def feedback_address(domain: str) -> str:
    """Return where complaint reports (ARF, RFC 5965) go."""
    return f"{FEEDBACK_LOCAL_PART}@{domain}"


def decode(address: str, *, keys: Sequence[bytes]) -> Decoded:
    """Return what `address` (or its local part) says, whatever its case and domain.

    `keys` are all that may have made it, the present one first: addresses outlive a change of key
    by weeks. Raises ValueError for a foreign or forged address.
    """
    local = address.strip().strip("<>").rpartition("@")[0] or address.strip().strip("<>")
    match = _LOCAL_PART.fullmatch(local)
    if match is None:
        raise ValueError("this is not an address that carries a message")
    purpose = _PURPOSES[match.group(1).lower()]
    message_id = ids.decode(match.group(2))
    mac = match.group(3).lower().encode()
    if not any(hmac.compare_digest(mac, _mac(purpose, message_id, key)) for key in keys):
        raise ValueError("the address is forged, or its key is gone")
    return Decoded(purpose, message_id)


def _encode(purpose: Purpose, message_id: uuid.UUID, key: bytes, domain: str) -> str:
    mac = _mac(purpose, message_id, key).decode()
    return f"{_LETTERS[purpose]}.{ids.encode(message_id)}.{mac}@{domain}"


def _mac(purpose: Purpose, message_id: uuid.UUID, key: bytes) -> bytes:
    if len(key) < 16:
        raise ValueError("a MAC key has at least 16 bytes")
    data = b"verp:" + purpose.encode() + b":" + message_id.bytes
    return hmac.digest(key, data, hashlib.sha256)[:4].hex().encode()
