"""Template tags that pages of every room use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from django import template
from django.forms.boundfield import BoundField
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from lucide import IconDoesNotExist, _render_icon

from esp.kit import charts
from esp.kit.forms import control_attributes, kind_of
from esp.kit.navigation import address_of, navigation_for

register = template.Library()

_BACKTICKS: Final = re.compile(r"`([^`]+)`")

# Every status of every model, by the colour that says how it stands.
_SHADES: Final[dict[str, str]] = {
    "success": "active done delivered verified sent subscribed confirmed ok pass passed found"
    " published healthy",
    "warning": "pending deferred paused unconfirmed draining unsubscribed expiring warning held"
    " softfail mismatch",
    "error": "failing failed bounced bounced_late expired complained complaint bounce suspended"
    " suppressed revoked missing fail error quarantined",
    "info": "scheduled uploaded checked new accepted opened clicked",
    "primary": "sending preparing running checking",
}
_SHADE_OF: Final[dict[str, str]] = {
    status: shade for shade, names in _SHADES.items() for status in names.split()
}


@register.filter
def inline_code(text: str) -> SafeString:
    """Return `text` escaped, with what stands between backticks set as code."""
    return mark_safe(_BACKTICKS.sub(r'<code class="mono">\1</code>', escape(text)))  # noqa: S308


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
def duration(seconds: float | None) -> str:
    """Return seconds in the unit that people read: "< 0.1 ms", "85 ms", "2.3 s", "4 min", "3 h"."""
    if seconds is None:
        return "–"
    if seconds < 0.0001:
        return "< 0.1 ms"
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    size, unit = next(
        (one for one in ((86400, "d"), (3600, "h")) if seconds >= 2 * one[0]), (60, "min")
    )
    return f"{seconds / size:.0f} {unit}"


@register.filter
def get_item(mapping: dict[str, Any], key: str) -> Any:
    """Return `mapping[key]`, or None."""
    return mapping.get(key)


@register.filter
def status_label(status: str | None) -> str:
    """Return a status as words: "bounced_late" becomes "Bounced late"."""
    return str(status or "–").replace("_", " ").replace("-", " ").capitalize()


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


@register.simple_tag
def icon(name: str, size: int | str = 18, **attributes: object) -> SafeString:
    """Return a Lucide icon, hidden from screen readers; a circle where there is no such icon."""
    attributes = {"aria_hidden": "true", "focusable": "false"} | attributes
    if "class" in attributes and not attributes["class"]:
        del attributes["class"]
    # `+ ""` makes template strings plain again, so that they are escaped as attributes.
    plain = {key: str(value) + "" for key, value in attributes.items()}
    try:
        return mark_safe(_render_icon(str(name), int(size), **plain))  # noqa: S308
    except IconDoesNotExist:
        return mark_safe(_render_icon("circle", int(size), **plain))  # noqa: S308


@register.simple_block_tag(takes_context=True)
def navigation(context: template.Context, content: str) -> str:
    """Render the sidebar; the block's text names the section to open."""
    request: HttpRequest | None = context.get("request")
    sections = navigation_for(request, content.strip()) if request is not None else []
    return render_to_string("components/sidebar.html", {"sections": sections}, request)


@register.simple_tag
def nav_url(name: str) -> str:
    """Return the address of a page without parameters, "" where there is none."""
    return address_of(name) or ""


@register.simple_tag
def field_kind(field: BoundField) -> str:
    """Return how `<c-field>` lays a field out: checkbox, group or control."""
    return kind_of(field)


@register.simple_tag
def control(field: BoundField, **attributes: str) -> SafeString:
    """Render a field's control with its look and its ties to help and error."""
    extra = attributes.pop("class", "")
    attrs: dict[str, str | bool] = {**control_attributes(field, extra_class=extra)}
    attrs.update({name.replace("_", "-"): value for name, value in attributes.items()})
    return field.as_widget(attrs=attrs)


@register.simple_tag
def badge_kind(status: object, kind: str = "") -> str:
    """Return the shade of a status: the one asked for, or the table's; "" is neutral."""
    if kind:
        return kind
    return _SHADE_OF.get(str(status or "").lower(), "")


@register.simple_tag
def line_chart(points: Sequence[Mapping[str, Any]] | None, title: str = "Over time") -> SafeString:
    """Draw `[{"label": "09:00", "opens": 12, "clicks": 3}, …]` as curves with key and table."""
    return charts.line_chart(points or [], title=title)


@register.simple_tag
def stack_bar(
    parts: Iterable[Mapping[str, Any]] | None, label: str = "Progress", **attributes: str
) -> SafeString:
    """Draw `[{"label": "Delivered", "count": 12, "kind": "success"}, …]` as one bar with a key."""
    return charts.stack_bar(parts or [], label=label, css=attributes.get("class", ""))


@register.simple_tag
def sparkline(
    values: Sequence[float] | None, title: str = "Trend", kind: str = "primary"
) -> SafeString:
    """Draw a small curve without axes."""
    return charts.sparkline(values or [], title=title, kind=kind)
