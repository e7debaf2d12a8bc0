"""Charts as SVG made on the server: coloured by CSS variables, readable without seeing them.

Input is plain data; nothing here knows what is counted. Every value that comes from outside is
escaped by `format_html`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

_WIDTH, _HEIGHT = 1000, 200
_numbers = count(1)

# The colour that a name gets when its caller does not say (`kind-…` classes in app.css).
_KINDS: Final[dict[str, str]] = {
    "opens": "primary",
    "opened": "primary",
    "clicks": "accent",
    "clicked": "accent",
    "delivered": "success",
    "sent": "success",
    "deferred": "warning",
    "bounced": "error",
    "bounces": "error",
    "complaints": "error",
    "complained": "error",
    "expired": "error",
    "unsubscribes": "warning",
    "queued": "neutral",
    "waiting": "neutral",
    "dropped": "muted",
    "not sent": "muted",
    "cancelled": "muted",
}
_IN_ORDER: Final[tuple[str, ...]] = ("primary", "accent", "success", "warning", "error", "muted")


@dataclass(frozen=True)
class Series:
    """One curve: its name, its values and the kind that colours it."""

    label: str
    values: tuple[float, ...]
    kind: str


@dataclass(frozen=True)
class Part:
    """One piece of a stacked bar."""

    label: str
    count: float
    kind: str


def kind_for(label: str, kind: str | None = None, *, index: int = 0) -> str:
    """Return the colour kind of a series or part: the given one, its name's, or the next one."""
    return kind or _KINDS.get(label.lower().replace("_", " ")) or _IN_ORDER[index % len(_IN_ORDER)]


def parts_of(parts: Iterable[Mapping[str, Any]]) -> list[Part]:
    """Read dicts `{label, count, kind?}`; a part below zero counts as zero."""
    return [
        Part(
            label=str(part["label"]),
            count=max(0, part["count"] or 0),
            kind=kind_for(str(part.get("kind") or part["label"]), part.get("kind"), index=index),
        )
        for index, part in enumerate(parts)
    ]


def series_of(points: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[Series]]:
    """Read points `{"label": "09:00", "opens": 12}`: their labels, and a curve per number."""
    if not points:
        return [], []
    names = [name for name in points[0] if name != "label"]
    labels = [str(point["label"]) for point in points]
    curves = [
        Series(
            label=name.replace("_", " ").capitalize(),
            values=tuple(float(point.get(name) or 0) for point in points),
            kind=kind_for(name, index=index),
        )
        for index, name in enumerate(names)
    ]
    return labels, curves


def nice_top(highest: float) -> float:
    """Return a round number at or above `highest` for the top of an axis; four steps divide it."""
    if highest <= 4:
        return 4
    size = 10.0 ** math.floor(math.log10(highest / 4))
    steps = (size * step for step in (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10))
    return next(4 * step for step in steps if step.is_integer() and 4 * step >= highest)


def short(number: float) -> str:
    """Return 1500 as "1.5k", 2000000 as "2M"."""
    for limit, letter in ((1_000_000, "M"), (1000, "k")):
        if number >= limit:
            return f"{number / limit:.1f}".removesuffix(".0") + letter
    return f"{number:g}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _grid() -> SafeString:
    return format_html_join(
        "",
        '<line class="grid-line" x1="0" x2="{}" y1="{}" y2="{}"/>',
        ((_WIDTH, _HEIGHT * step // 4, _HEIGHT * step // 4) for step in range(5)),
    )


def _heights(top: float) -> SafeString:
    return format_html_join(
        "", "<span>{}</span>", ((short(top * step / 4),) for step in range(4, -1, -1))
    )


def _marks(labels: Sequence[str]) -> SafeString:
    every = max(1, math.ceil(len(labels) / 9))
    last = max(1, len(labels) - 1)
    return format_html_join(
        "",
        '<span style="left:{}%">{}</span>',
        ((f"{100 * index / last:.2f}", labels[index]) for index in range(0, len(labels), every)),
    )


def _curve(series: Series, xs: Sequence[float], top: float) -> SafeString:
    points = [(x, _HEIGHT * (1 - value / top)) for x, value in zip(xs, series.values, strict=True)]
    under = f"{_path(points)} L{points[-1][0]:.1f} {_HEIGHT} L{points[0][0]:.1f} {_HEIGHT} Z"
    return format_html(
        '<g class="kind-{}"><path class="under" d="{}"/><path class="curve" d="{}"/></g>',
        series.kind,
        under,
        _path(points),
    )


def _hover(labels: Sequence[str], curves: Sequence[Series], xs: Sequence[float]) -> SafeString:
    """Return invisible columns with titles: the browser shows the numbers under the pointer."""
    wide = (xs[1] - xs[0]) if len(xs) > 1 else _WIDTH
    rows = []
    for index, label in enumerate(labels):
        numbers = ", ".join(f"{c.label}: {_number(c.values[index])}" for c in curves)
        rows.append((f"{xs[index] - wide / 2:.1f}", f"{wide:.1f}", f"{label} – {numbers}"))
    return format_html_join(
        "",
        '<rect class="hover-column" x="{}" width="{}" y="0" height="{}"><title>{}</title></rect>',
        ((x, width, _HEIGHT, text) for x, width, text in rows),
    )


def _table(title: str, labels: Sequence[str], curves: Sequence[Series]) -> SafeString:
    """Return the same numbers as a table for screen readers."""
    head = format_html_join("", '<th scope="col">{}</th>', ((curve.label,) for curve in curves))
    rows = format_html_join(
        "",
        '<tr><th scope="row">{}</th>{}</tr>',
        (
            (
                label,
                format_html_join(
                    "", "<td>{}</td>", ((_number(curve.values[index]),) for curve in curves)
                ),
            )
            for index, label in enumerate(labels)
        ),
    )
    return format_html(
        '<div class="sr-only"><table><caption>{}</caption><thead><tr><th scope="col">When</th>{}'
        "</tr></thead><tbody>{}</tbody></table></div>",
        title,
        head,
        rows,
    )


def legend(entries: Iterable[tuple[str, str, str]]) -> SafeString:
    """Return the key of a chart from (kind, label, number or ""), as a list."""
    items = format_html_join(
        "",
        '<li><span class="swatch kind-{}"></span><span>{}</span>'
        '<span class="num font-medium">{}</span></li>',
        entries,
    )
    return format_html('<ul class="legend">{}</ul>', items)


def line_chart(points: Sequence[Mapping[str, Any]], *, title: str) -> SafeString:
    """Return curves over time.

    Args:
        points: in order of time, `{"label": "09:00", "<series>": number, …}`, the same series
            in each; a series is named and coloured by its key ("opens", "clicks", …).
        title: what is shown, for screen readers and as the table's caption.
    """
    labels, curves = series_of(points)
    if not labels or not curves:
        return format_html('<p class="quiet py-8 text-center">{}</p>', "Nothing to show yet.")
    top = nice_top(max(max(curve.values) for curve in curves))
    steps = max(1, len(labels) - 1)
    xs = [_WIDTH * index / steps for index in range(len(labels))]
    number = next(_numbers)
    svg = format_html(
        '<svg viewBox="0 0 {} {}" preserveAspectRatio="none" role="img"'
        ' aria-labelledby="chart-{}"><title id="chart-{}">{}</title>{}{}{}</svg>',
        _WIDTH,
        _HEIGHT,
        number,
        number,
        title,
        _grid(),
        format_html_join("", "{}", ((_curve(curve, xs, top),) for curve in curves)),
        _hover(labels, curves, xs),
    )
    key = legend((curve.kind, curve.label, _number(sum(curve.values))) for curve in curves)
    return format_html(
        '<figure><div class="chart"><div class="chart-y" aria-hidden="true">{}</div>{}'
        '<div class="chart-x" aria-hidden="true">{}</div></div>{}{}</figure>',
        _heights(top),
        svg,
        _marks(labels),
        key,
        _table(title, labels, curves),
    )


def stack_bar(parts: Iterable[Mapping[str, Any]], *, label: str, css: str = "") -> SafeString:
    """Return one bar of `{label, count, kind?}` parts with a key below that states each count."""
    known = parts_of(parts)
    total = sum(part.count for part in known)
    spans = format_html_join(
        "",
        '<span class="kind-{}" style="width:{}%"></span>',
        ((part.kind, f"{100 * part.count / total:.3f}") for part in known if total and part.count),
    )
    words = ", ".join(f"{part.label} {_number(part.count)}" for part in known)
    return format_html(
        '<div class="{}"><div class="bar" role="img" aria-label="{}: {}">{}</div>{}</div>',
        css,
        label,
        words,
        spans,
        legend((part.kind, part.label, _number(part.count)) for part in known),
    )


def sparkline(values: Sequence[float], *, title: str, kind: str = "primary") -> SafeString:
    """Return a small curve without axes, 96 × 28; with a title that says its numbers."""
    if len(values) < 2:
        return SafeString("")
    top = max(*values, 1)
    points = [
        (96 * index / (len(values) - 1), 26 - 24 * max(0, value) / top)
        for index, value in enumerate(values)
    ]
    return format_html(
        '<svg class="spark kind-{}" viewBox="0 0 96 28" width="96" height="28" role="img">'
        "<title>{}: {} at the end, {} at most</title>"
        '<path class="under" d="{} L96 28 L0 28 Z"/><path class="curve" d="{}"/></svg>',
        kind,
        title,
        _number(values[-1]),
        _number(max(values)),
        _path(points),
        _path(points),
    )
