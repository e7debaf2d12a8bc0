"""When to try again: exponential back-off with full jitter; schedules and paces are data."""

from __future__ import annotations

import datetime as dt
import functools
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Schedule:
    """How patient a stream is; every duration in seconds.

    The wait after attempt n is drawn evenly between `floor_seconds` and a ceiling that starts at
    `ceiling_seconds`, grows by `factor` with each attempt and stops at `cap_seconds`. The floor is
    there because a receiver that greylists refuses again whoever comes back within seconds, so a
    jitter that reaches down to zero would only waste attempts. `is_fixed`: the waits are the same
    whatever the reply said.
    """

    name: str
    floor_seconds: float
    ceiling_seconds: float
    cap_seconds: float
    expires_after_seconds: float
    factor: float = 2.0
    is_fixed: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.floor_seconds <= self.ceiling_seconds <= self.cap_seconds:
            raise ValueError(f"schedule {self.name}: floor <= ceiling <= cap does not hold")
        if self.factor < 1 or self.expires_after_seconds <= 0:
            raise ValueError(f"schedule {self.name}: the factor or the expiry is out of range")


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast one kind of trouble passes, whatever the stream; seconds as in Schedule."""

    floor_seconds: float
    ceiling_seconds: float
    cap_seconds: float
    factor: float = 2.0


_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0

# RFC 5321 section 4.5.4.1 asks for a first retry after about 30 minutes and 4-5 days of patience.
# Bulk mail of today waits less at first (most deferrals are greylisting or rate limits, over in
# minutes) and gives up sooner (a sign-in code or an offer is worth nothing a week later).
SCHEDULES: Mapping[str, Schedule] = MappingProxyType(
    {
        "transactional": Schedule("transactional", 30, 90, _HOUR, _DAY),
        "broadcast": Schedule("broadcast", 150, 450, 4 * _HOUR, 3 * _DAY),
        # Sign-in codes: the person waits in front of the screen and asks for another one soon.
        "otp": Schedule("otp", 5, 15, _MINUTE, 10 * _MINUTE),
        # For the simulated internet, whose greylisting ends after seconds.
        "rehearsal": Schedule("rehearsal", 1, 2, 8, 10 * _MINUTE, is_fixed=True),
    }
)

# A message that lives no longer than this is tried like a sign-in code.
SHORT_LIFE_SECONDS = 30 * _MINUTE

# By unified class, or by its first part. What is not named goes by the stream's own schedule.
PACES: Mapping[str, Pace] = MappingProxyType(
    {
        # Greylisting asks for 1 to 5 minutes of patience (RFC 6647 section 5.3: at most an hour).
        "soft/greylisted": Pace(_MINUTE, 5 * _MINUTE, _HOUR),
        # Nobody empties a mailbox within minutes.
        "soft/mailbox-full": Pace(2 * _HOUR, 4 * _HOUR, 12 * _HOUR),
        # The lane is slowed down as a whole; a message need not wait much longer on its own.
        "soft/throttled": Pace(_MINUTE, 4 * _MINUTE, 30 * _MINUTE),
        # A server that restarts is back in minutes, one that moves in hours.
        "soft/network-error": Pace(2 * _MINUTE, 6 * _MINUTE, 2 * _HOUR),
        # Somebody has to mend a certificate first.
        "soft/tls-failure": Pace(10 * _MINUTE, 30 * _MINUTE, 4 * _HOUR),
        # "No such user" with a temporary code: mostly a directory that is down for a while.
        "hard": Pace(10 * _MINUTE, 30 * _MINUTE, 4 * _HOUR),
        # Reputation and policy change in hours; asking often makes them worse.
        "block": Pace(15 * _MINUTE, 45 * _MINUTE, 4 * _HOUR),
    }
)

_system_random = random.SystemRandom()


def schedule_for(
    stream: str, classification: str = "", *, lifetime_seconds: float | None = None
) -> Schedule:
    """Return the schedule of `stream` for trouble of the unified class `classification`.

    A message whose life from acceptance to expiry is at most SHORT_LIFE_SECONDS is tried by "otp".
    Raises KeyError for a stream that has no schedule.
    """
    schedule = SCHEDULES[stream]
    if (
        lifetime_seconds is not None
        and lifetime_seconds <= SHORT_LIFE_SECONDS
        and not schedule.is_fixed
    ):
        schedule = replace(SCHEDULES["otp"], expires_after_seconds=max(1.0, lifetime_seconds))
    return paced(schedule, classification)


@functools.lru_cache(maxsize=512)
def paced(schedule: Schedule, classification: str) -> Schedule:
    """Return `schedule` with the waits of this class, none longer than the stream's own cap."""
    pace = PACES.get(classification) or PACES.get(classification.partition("/")[0])
    if pace is None or schedule.is_fixed:
        return schedule
    ceiling = min(pace.ceiling_seconds, schedule.cap_seconds)
    return replace(
        schedule,
        # Half of the ceiling at most, so that jitter is left where the cap cuts.
        floor_seconds=min(pace.floor_seconds, ceiling / 2),
        ceiling_seconds=ceiling,
        cap_seconds=min(pace.cap_seconds, schedule.cap_seconds),
        factor=pace.factor,
    )


def next_attempt_at(
    attempt: int,
    now: dt.datetime,
    schedule: Schedule,
    *,
    accepted_at: dt.datetime | None = None,
    expires_at: dt.datetime | None = None,
    classification: str = "",
    hint_seconds: float | None = None,
    rng: random.Random = _system_random,
) -> dt.datetime | None:
    """Return when to try again, or None when that would be past the message's expiry.

    `attempt` is the number of attempts made (1 after the first). The end of the message's life is
    `expires_at`, else it follows from `accepted_at`, when it entered the queue. All moments are
    aware. `classification` is what the reply meant and sets the pace; `hint_seconds` is how long
    the receiver asked us to wait: never earlier, and where that is past the expiry, one last try
    shortly before it, because hints are often rounded up. Raises ValueError for an attempt below 1,
    TypeError when neither moment of the message is given.
    """
    if attempt < 1:
        raise ValueError("back-off starts after the first attempt")
    if expires_at is None:
        if accepted_at is None:
            raise TypeError("next_attempt_at needs expires_at or accepted_at")
        expires_at = expiry(accepted_at, schedule)
    if hint_seconds is not None and hint_seconds > 0 and not schedule.is_fixed:
        return _as_asked(hint_seconds, now, expires_at, schedule, rng)
    pace = paced(schedule, classification)
    # The exponent is bounded: 2.0 ** 2000 raises OverflowError, and the cap is reached long before.
    growth = pace.factor ** min(attempt - 1, 64)
    ceiling = min(pace.cap_seconds, pace.ceiling_seconds * growth)
    moment = now + dt.timedelta(seconds=rng.uniform(pace.floor_seconds, ceiling))
    return moment if moment < expires_at else None


def _as_asked(
    hint_seconds: float,
    now: dt.datetime,
    expires_at: dt.datetime,
    schedule: Schedule,
    rng: random.Random,
) -> dt.datetime | None:
    """Return the moment asked for, up to a tenth later so that not all come at once."""
    left = (expires_at - now).total_seconds()
    wait = max(1.0, hint_seconds) * rng.uniform(1.0, 1.1)
    if wait < left:
        return now + dt.timedelta(seconds=wait)
    last = left * rng.uniform(0.9, 0.98)
    return now + dt.timedelta(seconds=last) if last >= max(1.0, schedule.floor_seconds) else None


def expiry(
    accepted_at: dt.datetime, schedule: Schedule, *, ttl_seconds: float | None = None
) -> dt.datetime:
    """Return the moment after which a message of this schedule is given up.

    `ttl_seconds` is the sender's own wish; it shortens the schedule's patience, never lengthens it.
    """
    life = schedule.expires_after_seconds
    if ttl_seconds is not None:
        life = max(1.0, min(life, ttl_seconds))
    return accepted_at + dt.timedelta(seconds=life)
