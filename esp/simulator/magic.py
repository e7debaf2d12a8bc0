"""Magic local parts: addresses at any provider that always behave in one way.

A local part is magic when it is one of the words alone, or the word followed by `+`, `-`, `.` or a
digit: `bounce@`, `bounce-17@`, `ooo.anna@`, but not `bouncer@`.
"""

from __future__ import annotations

import re
from enum import Enum


class Magic(Enum):
    """What a magic mailbox does."""

    BOUNCE = "bounce"
    FULL = "full"
    COMPLAINT = "complaint"
    SLOW = "slow"
    OOO = "ooo"
    LATE_BOUNCE = "latebounce"
    DEFER = "defer"
    BLOCK = "block"


_PATTERN = re.compile(rf"({'|'.join(magic.value for magic in Magic)})(?:$|[+\-.\d])", re.IGNORECASE)


def magic_of(address: str) -> Magic | None:
    """Return what the mailbox does when it is a magic one, else None."""
    match = _PATTERN.match(address.rpartition("@")[0])
    return Magic(match.group(1).lower()) if match else None
