"""Finished text as content: its braces must not be read as Liquid."""

from __future__ import annotations

import re
from typing import Final

_LIQUID_OPEN = re.compile(r"\{(?=[{%])")

BRACE: Final = {"mw_brace": "{"}
"""The variables that content made by `literal` is filled with."""


def literal(text: str) -> str:
    """Return content that renders, filled with `BRACE`, to exactly `text`."""
    return _LIQUID_OPEN.sub("{{ mw_brace }}", text)
