"""Template tags that pages of every room use."""

from __future__ import annotations

from typing import Any

from django import template
from django.http import HttpRequest

register = template.Library()


@register.filter
def percent(part: float | None, whole: float | None) -> str:
    """Return `part` of `whole` as a percentage with at most two decimals; "–" without a whole."""
    if not whole or part is None:
        return "–"
    value = 100 * part / whole
    if value in {0, 100}:
        return f"{value:.0f} %"
    return f"{value:.2f} %" if value < 1 else f"{value:.1f} %"


@register.filter
def get_item(mapping: dict[str, Any], key: str) -> Any:
    """Return `mapping[key]`, or None."""
    return mapping.get(key)


@register.simple_tag(takes_context=True)
def query_with(context: dict[str, Any], **changes: object) -> str:
    """Return the request's query string with some parameters changed; None removes one."""
    request: HttpRequest = context["request"]
    query = request.GET.copy()
    for name, value in changes.items():
        if value is None or value == "":
            query.pop(name, None)
        else:
            query[name] = str(value)
    return f"?{query.urlencode()}" if query else "?"
