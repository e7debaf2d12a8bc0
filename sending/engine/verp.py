"""Addresses that carry a message's id under a MAC: return path, unsubscribe mail, feedback.

`b.<id>.<mac>@domain` is where bounces of one message come back to (VERP), `u.<id>.<mac>@domain`
unsubscribes its recipient. Everything in them survives folding of case. The MAC has 32 bits:
guessing is online only (every guess is a mail to us), and a hit lets a stranger bounce or
unsubscribe one message whose id, 74 random bits, he must know already. Both MACs are parts of one
output of keyed BLAKE2b (RFC 7693 section 2.9); neither says anything about the other.
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

_PURPOSES: dict[str, Purpose] = {"b": "bounce", "u": "unsubscribe"}
_LOCAL_PART = re.compile(r"([bu])\.([0-9a-z]{26})\.([0-9a-f]{8})", re.IGNORECASE)

_PERSON = b"mailwright-verp"  # at most 16 bytes

FEEDBACK_LOCAL_PART = "fbl"


@dataclass(frozen=True, slots=True)
class Decoded:
    """What an address of ours means."""

    purpose: Purpose
    message_id: uuid.UUID


@dataclass(slots=True)
class Addresses:
    """The addresses of one message; `name` is `ids.encode` of its id."""

    name: str
    return_path: str
    unsubscribe: str


def addresses(message_id: uuid.UUID, *, key: bytes, domain: str) -> Addresses:
    """Return what `return_path` and `unsubscribe_address` say, worked out once for both."""
    name, macs = ids.encode(message_id), _macs(message_id, key)
    return Addresses(name, f"b.{name}.{macs[:8]}@{domain}", f"u.{name}.{macs[8:]}@{domain}")


def return_path(message_id: uuid.UUID, *, key: bytes, domain: str) -> str:
    """Return the envelope sender of a message."""
    return addresses(message_id, key=key, domain=domain).return_path


def unsubscribe_address(message_id: uuid.UUID, *, key: bytes, domain: str) -> str:
    """Return the address for List-Unsubscribe's mailto (RFC 2369)."""
    return addresses(message_id, key=key, domain=domain).unsubscribe


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
    mac = match.group(3).lower()
    if not any(hmac.compare_digest(mac, _mac(purpose, message_id, key)) for key in keys):
        raise ValueError("the address is forged, or its key is gone")
    return Decoded(purpose, message_id)


def _mac(purpose: Purpose, message_id: uuid.UUID, key: bytes) -> str:
    macs = _macs(message_id, key)
    return macs[:8] if purpose == "bounce" else macs[8:]


def _macs(message_id: uuid.UUID, key: bytes) -> str:
    """Return both MACs in hexadecimal: the first half is for bounces."""
    if not 16 <= len(key) <= hashlib.blake2b.MAX_KEY_SIZE:
        raise ValueError("a MAC key has 16 to 64 bytes")
    return hashlib.blake2b(message_id.bytes, key=key, digest_size=8, person=_PERSON).hexdigest()
