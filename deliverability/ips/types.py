"""What the room hands to those who send."""

from __future__ import annotations

import uuid
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceIp:
    """An address to send from. Without an `id` the operating system chooses: `address` is ""."""

    id: uuid.UUID | None
    address: str
    ehlo_name: str
