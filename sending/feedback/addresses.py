"""Which addresses are ours, and what mail at them is about."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Literal

from django.conf import settings

from deliverability.domains.selectors import is_return_path_domain
from esp.kit.keys import accepted_keys
from sending.engine import verp

Purpose = Literal["bounce", "unsubscribe", "feedback", "people"]

# RFC 2142 and RFC 5321 section 4.5.1: complaints come to abuse@ too, and postmaster@ must exist.
_PEOPLE = {"abuse", "postmaster"}


@dataclass(frozen=True, slots=True)
class Inbox:
    """What an address of ours is for; `message_id` when it names a message under a good MAC."""

    purpose: Purpose
    message_id: uuid.UUID | None = None


def find_inbox(address: str) -> Inbox | None:
    """Return what `address` is for, or None when it is not ours, unknown or forged.

    An address with a MAC is its own proof, whatever its domain; the others must stand at a host of
    ours or at the return-path host of a tenant's domain (CFBL-Address, RFC 9477, names it).
    """
    local, _, domain = address.strip().strip("<>").rpartition("@")
    if not local:
        return Inbox("people") if domain.lower() == "postmaster" else None
    try:
        decoded = verp.decode(address, keys=accepted_keys("verp"))
    except ValueError:
        return _named_inbox(local.lower(), domain.lower().rstrip("."))
    return Inbox(decoded.purpose, decoded.message_id)


def _named_inbox(local: str, domain: str) -> Inbox | None:
    if local != verp.FEEDBACK_LOCAL_PART and local not in _PEOPLE:
        return None
    hosts = {settings.PRODUCT_DOMAIN, settings.RETURN_PATH_TARGET, settings.FEEDBACK_DOMAIN}
    if domain not in hosts and not is_return_path_domain(domain):
        return None
    return Inbox("feedback" if local == verp.FEEDBACK_LOCAL_PART else "people")
