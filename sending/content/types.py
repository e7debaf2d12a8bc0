"""The values that the content room passes around: what a person wrote, what it compiles to, what
one recipient gets. Plain dataclasses; nothing here knows the database.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

SourceKind = Literal["html", "mjml", "text"]

COMPILED_FORMAT = 1
"""Raised when the compiled form changes, so that stored versions are compiled again."""


@dataclass(frozen=True, slots=True)
class ContentSource:
    """What a person wrote: `body` in the language `kind`, all parts may hold Liquid.

    `text_body` is None where the plain-text part is to be made from the HTML.
    """

    kind: SourceKind
    body: str
    subject: str
    text_body: str | None = None
    preview_text: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """One link of the HTML part. `url` is plain text (no HTML entities) and may hold Liquid."""

    index: int
    url: str


@dataclass(frozen=True, slots=True)
class CompiledContent:
    """The form that is filled per recipient: four Liquid sources and what is known about them.

    `html` is None for plain-text content. `fields` are the merge fields that some place uses
    without a default. `has_unsubscribe` and `has_postal_address` speak of the finished content,
    so they are true when the standard footer was added.
    """

    subject: str
    preheader: str
    html: str | None
    text: str
    links: tuple[Link, ...] = ()
    fields: tuple[str, ...] = ()
    has_unsubscribe: bool = False
    has_postal_address: bool = False
    warnings: tuple[str, ...] = ()
    format: int = COMPILED_FORMAT

    def to_json(self) -> str:
        """Return a JSON text that `from_json` reads back to an equal value."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> CompiledContent:
        """Return the value that `to_json` wrote; raises ValueError for another format."""
        data: dict[str, Any] = json.loads(text)
        if data.get("format") != COMPILED_FORMAT:
            raise ValueError("this content was compiled by another version: compile it again")
        data["links"] = tuple(Link(**link) for link in data["links"])
        data["fields"] = tuple(data["fields"])
        data["warnings"] = tuple(data["warnings"])
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Rendered:
    """What one recipient gets; `html` is None for plain-text content."""

    subject: str
    html: str | None
    text: str


@dataclass(slots=True)
class RenderContext:
    """What is filled in for one recipient.

    `variables` are the contact's attributes, reachable as `{{ name }}` and `{{ contact.name }}`.
    `link_url` maps a link's index to its tracked URL; None leaves links as they were written. With
    it, the URLs here differ between messages of one content in letters, digits, "-" and "_" alone.
    `pixel_url` is the open pixel; None for no pixel. `now` is what `{{ "now" | date }}` shows.
    """

    variables: Mapping[str, object] = field(default_factory=dict)
    unsubscribe_url: str = ""
    preferences_url: str = ""
    view_url: str = ""
    postal_address: str = ""
    link_url: Callable[[int], str] | None = None
    pixel_url: str | None = None
    now: dt.datetime | None = None


PRODUCT_VARIABLES = frozenset(
    {"unsubscribe_url", "preferences_url", "view_url", "postal_address", "now", "today"}
)
"""Variables that the product fills in for every recipient: never a missing merge field."""
