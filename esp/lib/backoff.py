"""When to try again: exponential back-off with full jitter, and the schedules as data."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Schedule:
    """How patient a stream is; every duration in seconds.

    The wait after attempt n is drawn evenly between `floor_seconds` and a ceiling that starts at
    `ceiling_seconds`, grows by `factor` with each attempt and stops at `cap_seconds`. The floor is
    there because a receiver that greylists refuses again whoever comes back within seconds, so a
    jitter that reaches down to zero would only waste attempts.
    """

    name: str
    floor_seconds: float
    ceiling_seconds: float
    cap_seconds: float
    expires_after_seconds: float
    factor: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.floor_seconds <= self.ceiling_seconds <= self.cap_seconds:
            raise ValueError(f"schedule {self.name}: floor <= ceiling <= cap does not hold")
        if self.factor < 1 or self.expires_after_seconds <= 0:
            raise ValueError(f"schedule {self.name}: the factor or the expiry is out of range")


_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0

# RFC 5321 section 4.5.4.1 asks for a first retry after about 30 minutes and 4-5 days of patience.
# Bulk mail of today waits less at first (most deferrals are greylisting or rate limits, over in
# minutes) and gives up sooner (a sign-in code or an offer is worth nothing a week later).
SCHEDULES: Mapping[str, Schedule] = MappingProxyType(
    {
        "transactional": Schedule("transactional", 30, 90, _HOUR, _DAY),
        "broadcast": Schedule("broadcast", 150, 450, 4 * _HOUR, 3 * _DAY),
        # For the simulated internet, whose greylisting ends after seconds.
        "rehearsal": Schedule("rehearsal", 1, 2, 8, 10 * _MINUTE),
    }
)

_system_random = random.SystemRandom()


def next_attempt_at(
    attempt: int,
    now: dt.datetime,
    schedule: Schedule,
    *,
    accepted_at: dt.datetime,
    rng: random.Random = _system_random,
) -> dt.datetime | None:
    """Return when to try again, or None when that would be past the message's expiry.

    `attempt` is the number of attempts made (1 after the first); `accepted_at` is when the message
    entered the queue, the start of its life. Both moments are aware. Raises ValueError for an
    attempt below 1.
    """
    if attempt < 1:
        raise ValueError("back-off starts after the first attempt")
    expires_at = expiry(accepted_at, schedule)
    # The exponent is bounded: 2.0 ** 2000 raises OverflowError, and the cap is reached long before.
    growth = schedule.factor ** min(attempt - 1, 64)
    ceiling = min(schedule.cap_seconds, schedule.ceiling_seconds * growth)
    moment = now + dt.timedelta(seconds=rng.uniform(schedule.floor_seconds, ceiling))
    return moment if moment < expires_at else None


def expiry(accepted_at: dt.datetime, schedule: Schedule) -> dt.datetime:
    """Return the moment after which a message of this schedule is given up."""
    return accepted_at + dt.timedelta(seconds=schedule.expires_after_seconds)
