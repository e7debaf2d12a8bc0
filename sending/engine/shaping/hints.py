"""Retry hints in replies: "try again in 300 seconds", "Greylisted for 4 minutes"."""

from __future__ import annotations

import re

# Less than half a minute only provokes the next refusal; a day is longer than most mail matters.
SHORTEST, LONGEST = 30.0, 86_400.0

_WORDS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "five": 5, "ten": 10, "fifteen": 15,
          "thirty": 30, "sixty": 60, "half an": 0.5}  # fmt: skip
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}

_NUMBER = (
    r"(?P<number>\d{1,7}(?:\.\d{1,3})?|half an"
    r"|(?:a|an|one|two|three|five|ten|fifteen|thirty|sixty)\b)"
)
_UNIT = (
    r"(?P<unit>s(?:ec(?:ond|onde|s|\.)?s?|econdi|egundos?|ekunden?)?"
    r"|m(?:in(?:ute|uten|uti|utos?|s|\.)?s?)?"
    r"|h(?:(?:ou)?rs?|eures?)?|stunden?|ore|horas?|d(?:ays?)?|tage?n?|jours?)(?![\w])"
)
# Most replies have no hint; this finds that out in a tenth of the time.
_PERHAPS = re.compile(r"\d[ -]?[smhdotj]|\d:\d|retry|[aenorxy] (?:sec|min|hou|day)")
# Words that speak of our next try, in the languages that big receivers answer in. A count of
# seconds elsewhere in a reply is something else: an idle time, the period of a limit.
_TRIGGER = (
    r"\b(?:re-?(?:try|trying|send|connect|attempt|deliver\w*|submit)|try|tries again|again"
    r"|come back|back off|wait|gr[ae]y-?list\w*|defer(?:red)?|delay(?:ed)?|blocked|blacklisted"
    r"|postponed|suspended|expires?|throttled|available|r[ée]essayer|ritenta\w*|riprova\w*"
    r"|intente\w*|warten|versuchen)\b"
)
_AFTER_TRIGGER = re.compile(
    # "per" and "within" name a limit's period or an upper bound, not a wait.
    _TRIGGER + r"(?:(?!\bper\b|\bwithin\b)[^.;\d]){0,40}?(?<![\w.])" + _NUMBER + r"[ -]?" + _UNIT,
    re.IGNORECASE,
)
_BEFORE_TRIGGER = re.compile(
    r"(?<![\w.])" + _NUMBER + r" ?" + _UNIT + r"[^.;\d]{0,20}\b(?:before|and|then|until|till)\b"
    r"[^.;\d]{0,20}\b(?:re-?try\w*|re-?send\w*|try|trying|again|re-?connect\w*)\b",
    re.IGNORECASE,
)
# The header's name in a reply's text: seconds unless a unit follows (RFC 9110 section 10.2.3).
_HEADER = re.compile(
    r"\bretry(?:[-_ ]?(?:after|in)\s?[:=]?|\s?=)\s?(?P<number>\d{1,7})(?![\d.:/-])"
    r"\s?(?:" + _UNIT + ")?",
    re.IGNORECASE,
)
# "retry in 00:04:59", as greylisting daemons count down.
_CLOCK = re.compile(
    _TRIGGER + r"[^.;\d]{0,40}?(?<!\d)"
    r"(?:(?P<hours>\d{1,2}):)?(?P<minutes>\d{1,2}):(?P<seconds>\d\d)(?![\d:])"
    r"(?: ?(?P<half>am|pm|utc|gmt))?",
    re.IGNORECASE,
)  # fmt: skip


def retry_after(text: str) -> float | None:
    """Return in how many seconds the reply `text` asks to be tried again, or None.

    Bounded to SHORTEST..LONGEST. Where a reply names several times the first counts.
    """
    text = " ".join(text[:1000].split())
    if _PERHAPS.search(text.lower()) is None:
        return None
    seconds = _on_the_clock(text)
    if seconds is None:
        match = _HEADER.search(text) or _AFTER_TRIGGER.search(text) or _BEFORE_TRIGGER.search(text)
        if match is None:
            return None
        seconds = _amount(match["number"]) * _unit(match["unit"])
    return min(max(seconds, SHORTEST), LONGEST)


def _on_the_clock(text: str) -> float | None:
    match = _CLOCK.search(text)
    # A time of day ("until 14:05 UTC") is no count-down: without a zone nobody knows what it means.
    if match is None or match["half"] or re.search(r"\b(?:at|until|till)\b", match[0], re.I):
        return None
    if match["hours"] is None and not re.search(r"\bin \d+:\d\d$", match[0], re.I):
        return None
    return 3600.0 * int(match["hours"] or 0) + 60.0 * int(match["minutes"]) + int(match["seconds"])


def _amount(number: str) -> float:
    return _WORDS[number.lower()] if number[0].isalpha() else float(number)


def _unit(unit: str | None) -> float:
    if unit is None:
        return 1.0
    first = unit.lower()
    if first.startswith(("st", "or", "ho")):  # Stunden, ore, horas
        return _UNITS["h"]
    if first.startswith(("ta", "jo")):  # Tage, jours
        return _UNITS["d"]
    return _UNITS[first[0]]
