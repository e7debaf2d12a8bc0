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


@dataclass(frozen=True, slots=True)
class RankedSource:
    """A source IP as one way out: rank 0 is the pool itself, each overflow pool one more.

    `weight` is its share among the sources of its rank; `pool` is the pool's name ("" when the
    operating system chooses).
    """

    source: SourceIp
    rank: int
    weight: int
    pool: str
