"""Keyset paging: a page begins behind the last row of the one before, however deep it lies."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from django.db import models

from esp.lib.errors import InvalidInput
from esp.lib.ids import decode, encode

_M = TypeVar("_M", bound=models.Model)


@dataclass(frozen=True)
class Page(Generic[_M]):
    """One page of rows, newest first; the cursors are texts for the URL, None at the ends."""

    rows: list[_M]
    next_cursor: str | None
    previous_cursor: str | None


def cursor_of(text: str | None) -> uuid.UUID | None:
    """Return the key in a cursor; raises InvalidInput for a forged one."""
    if not text:
        return None
    try:
        return decode(text)
    except ValueError as error:
        raise InvalidInput("This page link is not valid.", code="bad-cursor") from error


def newest_first(
    rows: models.QuerySet[_M],
    *,
    after: str | None = None,
    before: str | None = None,
    size: int = 50,
) -> Page[_M]:
    """Return the page behind `after` (older) or in front of `before` (newer), by UUIDv7 `id`.

    Keys are chosen first, from the index (tenant, -id): asked for whole rows, the planner may walk
    the primary key instead, through every newer row of other tenants.
    """

    def find(
        *, below: uuid.UUID | None = None, above: uuid.UUID | None = None, limit: int
    ) -> list[uuid.UUID]:
        if above is not None:
            ordered = rows.filter(id__gt=above).order_by("id")
        else:
            older = rows if below is None else rows.filter(id__lt=below)
            ordered = older.order_by("-id")
        return list(ordered.values_list("pk", flat=True)[:limit])

    return newest_by_keys(rows, find, after=after, before=before, size=size)


class FindKeys(Protocol):
    """Finds the newest keys, falling, below one; or the next keys above one, rising."""

    def __call__(
        self, *, below: uuid.UUID | None = None, above: uuid.UUID | None = None, limit: int
    ) -> list[uuid.UUID]:
        """Return `limit` keys at most."""


def newest_by_keys(
    rows: models.QuerySet[_M],
    find: FindKeys,
    *,
    after: str | None = None,
    before: str | None = None,
    size: int = 50,
) -> Page[_M]:
    """Return a page as `newest_first` does, of the `rows` whose keys `find` chooses."""
    after_key, before_key = cursor_of(after), cursor_of(before)
    if before_key is not None:
        found, more = _rows_of(rows, find(above=before_key, limit=size + 1), size)
        found.reverse()
        return Page(
            rows=found,
            next_cursor=encode(found[-1].pk) if found else None,
            previous_cursor=encode(found[0].pk) if found and more else None,
        )
    found, more = _rows_of(rows, find(below=after_key, limit=size + 1), size)
    return Page(
        rows=found,
        next_cursor=encode(found[-1].pk) if found and more else None,
        previous_cursor=encode(found[0].pk) if found and after_key is not None else None,
    )


def _rows_of(rows: models.QuerySet[_M], keys: list[uuid.UUID], size: int) -> tuple[list[_M], bool]:
    """Return the rows of the first `size` keys, in their order, and whether more follow."""
    found = {row.pk: row for row in rows.order_by().filter(pk__in=keys[:size])}
    return [found[key] for key in keys[:size] if key in found], len(keys) > size
