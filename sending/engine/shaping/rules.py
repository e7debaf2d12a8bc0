"""One rule of shaping: which replies of which sites, and what they call for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sending.engine.shaping.limits import Reaction

# What matters stands in front; the cut bounds what a hostile text can cost.
_LOOK_AT = 600


@dataclass(frozen=True, slots=True)
class ShapingRule:
    """Fires for a reply that meets every kind of condition given, and one of each kind.

    `sites` is empty for a rule about every site. `enhanced` has triples of numbers, with "*" for
    any; `texts` are searched in the reply in lower case on one line; `classes` are unified classes.
    """

    id: str
    title: str
    sites: tuple[str, ...]
    codes: frozenset[int]
    enhanced: tuple[tuple[str, ...], ...]
    texts: tuple[re.Pattern[str], ...]
    classes: frozenset[str]
    reactions: tuple[Reaction, ...]
    source: str
    examples: tuple[str, ...]

    def matches(self, code: int, enhanced: str | None, text: str, classification: str) -> bool:
        """Tell whether the conditions hold; `text` as `plain` returns it."""
        return (
            (not self.codes or code in self.codes)
            and (not self.classes or classification in self.classes)
            and (not self.enhanced or any(fits(enhanced, form) for form in self.enhanced))
            and (not self.texts or any(pattern.search(text) for pattern in self.texts))
        )


def fits(enhanced: str | None, form: tuple[str, ...]) -> bool:
    """Tell whether an enhanced code has this form of three parts; "*" stands for any."""
    parts = (enhanced or "").split(".")
    return len(parts) == 3 and all(w in ("*", h) for w, h in zip(form, parts, strict=True))


def plain(text: str) -> str:
    """Return `text` as patterns meet it: lower case, one line, cut."""
    return " ".join(text[:_LOOK_AT].lower().split())
