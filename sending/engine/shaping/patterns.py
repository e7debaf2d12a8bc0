"""Patterns of shaping rules: regular expressions that no text can make slow.

A rule meets what strangers' servers say, so its cost must be bounded by its form: no open-ended
repetition, no repetition of a repetition, and few ways in which the bounded ones can combine.
"""

from __future__ import annotations

import re

# The product of all bounds: how many ways to try at one place of a text, in the worst case.
MOST_WAYS = 500

_PIECE = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?:|\(\?|[()]|[*+]|\{(?P<low>\d*)(?P<comma>,?)(?P<high>\d*)\}|\?|.",
    re.DOTALL,
)


def compile_pattern(text: str) -> re.Pattern[str]:
    """Compile `text` to search in lower-case text; raises ValueError with the reason if refused."""
    if not text:
        raise ValueError("the pattern is empty and would match everything")
    if text != text.lower() and re.search(r"(?<!\\)[A-Z]", text):
        raise ValueError("the pattern has capital letters; replies are compared in lower case")
    ways = _ways(text)
    if ways > MOST_WAYS:
        raise ValueError(f"the bounds of its repetitions multiply to {ways}, above {MOST_WAYS}")
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ValueError(f"the pattern does not compile: {error}") from error
    if pattern.search("") is not None:
        raise ValueError("the pattern matches empty text and would match everything")
    return pattern


def _ways(text: str) -> int:
    """Return the product of the repetitions' bounds; raises ValueError for forbidden forms."""
    ways = 1
    groups: list[bool] = []  # for each open group: whether a repetition stands in it
    closed_with_repetition = False
    for match in _PIECE.finditer(text):
        piece = match[0]
        if piece in ("*", "+"):
            raise ValueError(f"it repeats without a bound ({piece}); write {{0,40}} or the like")
        if piece == "(?":
            raise ValueError("only plain groups (?:...) are allowed")
        if piece in ("(", "(?:"):
            groups.append(False)
        elif piece == ")":
            closed_with_repetition = bool(groups) and groups.pop()
            if groups:
                groups[-1] = groups[-1] or closed_with_repetition
            continue
        elif piece == "?" or match["high"] is not None:
            if closed_with_repetition and piece != "?":
                raise ValueError("it repeats a group that has a repetition in it")
            ways *= _bound(match)
            groups[:] = [True] * len(groups)
        closed_with_repetition = False
    return ways


def _bound(match: re.Match[str]) -> int:
    if match[0] == "?":
        return 2
    if match["comma"] and not match["high"]:
        raise ValueError(f"it repeats without a bound ({match[0]}); write {{0,40}} or the like")
    high = int(match["high"] or match["low"] or 1)
    return max(1, high - (int(match["low"] or 0) if match["comma"] else high) + 1)
