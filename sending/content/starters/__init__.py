"""Mails to begin a template with, written for this product; their bodies are files beside this one.

Each reads well without pictures, in light and in dark clients, and at 320 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from esp.lib.errors import InvalidInput
from sending.content.types import SourceKind

_HERE: Final = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Starter:
    """A mail to begin with: `key` names it in forms, `name` and `summary` are for people."""

    key: str
    name: str
    summary: str
    kind: SourceKind
    subject: str
    preview_text: str
    filename: str

    @property
    def body(self) -> str:
        return _read(self.filename)


@lru_cache(maxsize=16)
def _read(filename: str) -> str:
    return (_HERE / filename).read_text(encoding="utf-8")


BLANK: Final = Starter(
    key="",
    name="Blank",
    summary="An empty HTML page with the right frame around it.",
    kind="html",
    subject="",
    preview_text="",
    filename="blank.html",
)
STARTERS: Final[tuple[Starter, ...]] = (
    Starter(
        key="newsletter",
        name="Newsletter",
        summary="A lead story and two short ones side by side. MJML, so it adapts by itself.",
        kind="mjml",
        subject="What’s new this month",
        preview_text="The story of the month, two things worth reading, and a date to keep.",
        filename="newsletter.mjml",
    ),
    Starter(
        key="announcement",
        name="Announcement",
        summary="One message and one button. Plain HTML that you can take apart.",
        kind="html",
        subject='{{ first_name | default: "Hello" }}, something new is here',
        preview_text="It is ready for you today, and it takes a minute to try.",
        filename="announcement.html",
    ),
    Starter(
        key="plain",
        name="Personal note",
        summary="Plain text, as one person writes to another.",
        kind="text",
        subject="A quick note",
        preview_text="",
        filename="plain.txt",
    ),
)


def starter_named(key: str) -> Starter:
    """Return the starter with this key ("" is the blank one); raises InvalidInput."""
    for starter in (BLANK, *STARTERS):
        if starter.key == key:
            return starter
    raise InvalidInput("There is no such starter.", field="starter")
