"""Chance that can be repeated: a draw is a function of the seed and of what it is about.

Draws do not depend on the order in which messages arrive, so two runs with the same seed and the
same messages give the same bounces, opens and complaints however the sender schedules them.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")


def draw(seed: int, *parts: object) -> float:
    """Return a number in [0, 1) that depends on the seed and the parts alone."""
    digest = blake2b(repr((seed, *parts)).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big") / (1 << 56)


def pick(seed: int, options: Sequence[T], *parts: object) -> T:
    """Return one of the (at least one) options, by the seed and the parts alone."""
    return options[int(draw(seed, *parts) * len(options))]
