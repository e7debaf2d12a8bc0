"""Reads of templates."""

from __future__ import annotations

from esp.kit.paging import Page, newest_first
from sending.content.models import Template

MAX_NAME = 120
MAX_QUERY = MAX_NAME


def templates_page(
    *, query: str = "", after: str | None = None, before: str | None = None, size: int = 24
) -> Page[Template]:
    """Return the templates of the tenant in scope, newest first; `query` is a part of the name.

    A tenant has some hundred templates, found by its key: the part of the name needs no index.
    Their bodies stay in the database.
    """
    rows = Template.objects.defer("body", "text_body")
    query = query.replace("\x00", "").strip()[:MAX_QUERY]
    if query:
        rows = rows.filter(name__icontains=query)
    return newest_first(rows, after=after, before=before, size=size)


def free_name(wanted: str) -> str:
    """Return `wanted`, with a number behind it where the tenant has a template of that name."""
    number = 1
    name = wanted[:MAX_NAME]
    while Template.objects.filter(name__iexact=name).exists():
        number += 1
        end = f" {number}"
        name = wanted[: MAX_NAME - len(end)] + end
    return name
