"""The last word of each regular check, for the operators' page; losing it loses nothing."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from django.core.cache import cache
from django.utils import timezone
from redis import RedisError

log = logging.getLogger(__name__)

_KEY = "alerts:check:{name}"
_SECONDS = 7 * 24 * 3600
# A check that has been silent for longer is one that does not run.
SILENT_SECONDS = 300
NAMES = {"queue": "Queue", "servers": "Servers"}


@dataclass(frozen=True, slots=True)
class CheckNote:
    """What a check said last; `is_silent`: it has not run for minutes, or its note is lost."""

    label: str
    text: str
    at: Any
    is_silent: bool


def note_check(name: str, text: str) -> None:
    """Keep what the check `name` (a key of `NAMES`) said just now."""
    try:
        cache.set(_KEY.format(name=name), {"text": text, "at": timezone.now()}, _SECONDS)
    except RedisError as error:
        log.warning("the note of the check %s is lost: %s", name, error)


def check_notes() -> list[CheckNote]:
    """Return what each check said last."""
    notes = []
    for name, label in NAMES.items():
        try:
            kept = cache.get(_KEY.format(name=name))
        except RedisError:
            kept = None
        if kept is None:
            notes.append(CheckNote(label, "", None, is_silent=True))
            continue
        age = (timezone.now() - kept["at"]).total_seconds()
        notes.append(CheckNote(label, kept["text"], kept["at"], age > SILENT_SECONDS))
    return notes


def seconds_since_check(name: str) -> float:
    """Return for how long the check `name` has said nothing; infinite where its note is lost."""
    try:
        kept = cache.get(_KEY.format(name=name))
    except RedisError:
        kept = None
    return float("inf") if kept is None else (timezone.now() - kept["at"]).total_seconds()
