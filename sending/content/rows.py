"""Values and the constants between them, written by one step a row.

Nearly all that a newsletter's template does is to write a constant and a value by turns. A Python
call for each of them costs more than writing it, so a row of one kind of value is one loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from liquid.stringify import to_liquid_string

from sending.content.bounds import BoundedContext
from sending.content.expressions import MISSING, Evaluate
from sending.content.quoted import Form

Parts = list[str]  # the context's output; handed on with it, which saves asking for it each time
Step = Callable[[BoundedContext, Parts], None]
WriteValue = Callable[[object, BoundedContext, Parts], None]

_BIG = 10**18  # a number below it fits behind every constant
_LONG = 256  # characters of a value that are counted at once, not at the end


@dataclass(frozen=True, slots=True)
class Named:
    """The output of a variable that only one of the context's frames can hold.

    `write` takes its value (None where there is none) when the form's memo does not know it.
    """

    frame: int
    name: str
    write: WriteValue


@dataclass(frozen=True, slots=True)
class Linked:
    """The output of a link's address from `column` on."""

    index: int
    column: int


@dataclass(frozen=True, slots=True)
class Other:
    """Any other output."""

    step: Step


Value = Named | Linked | Other


class Block:
    """Gathers what a block writes, in its order, into one step."""

    def __init__(self, form: Form) -> None:
        self.constants = 0  # characters
        self._form = form
        self._steps: list[Step] = []
        self._row: list[tuple[str, Value]] = []  # each value with the constant before it
        self._constant = ""  # what no value follows yet

    def add_constant(self, written: str) -> None:
        self.constants += len(written)
        self._constant += written

    def add_value(self, value: Value) -> None:
        self._row.append((self._constant, value))
        self._constant = ""

    def add_step(self, step: Step) -> None:
        self._end_row()
        self._steps.append(step)

    def step(self) -> Step:
        """Return the step of all that was added."""
        self._end_row()
        return self._steps[0] if len(self._steps) == 1 else _sequence(tuple(self._steps))

    def _end_row(self) -> None:
        rows = [(k, list(pairs)) for k, pairs in groupby(self._row, lambda pair: type(pair[1]))]
        for number, (kind, pairs) in enumerate(rows, 1):
            after = self._constant if number == len(rows) else ""
            self._steps.append(_ROWS[kind](pairs, after, self._form))
        if self._constant and not rows:
            self._steps.append(_constant(self._constant))
        self._row, self._constant = [], ""


def _sequence(steps: tuple[Step, ...]) -> Step:
    def sequence(context: BoundedContext, parts: Parts) -> None:
        for step in steps:
            step(context, parts)

    return sequence


def _constant(written: str) -> Step:
    return lambda context, parts: parts.append(written)


def _named(pairs: Sequence[tuple[str, Named]], after: str, form: Form) -> Step:
    row = tuple((before, value.frame, value.name, value.write) for before, value in pairs)
    known: Callable[[Any], str | None] = form.memo.get

    def step(context: BoundedContext, parts: Parts) -> None:
        frames = context.frames
        for before, frame, name, write in row:
            parts.append(before)
            value = frames[frame].get(name)
            try:
                written = known(value)
            except TypeError:  # a list
                written = None
            if written is None:
                write(value, context, parts)
            else:
                parts.append(written)
        parts.append(after)

    return step


def _linked(pairs: Sequence[tuple[str, Linked]], after: str, form: Form) -> Step:
    row = tuple((before, value.index, value.column) for before, value in pairs)

    def step(context: BoundedContext, parts: Parts) -> None:
        link = context.link_writer or _no_link
        place = form.place_clean if context.has_clean_urls else form.place
        for before, index, column in row:
            parts.append(before)
            parts.append(place(link(index), column))
        parts.append(after)

    return step


def _no_link(index: int) -> str:
    return ""


def _others(pairs: Sequence[tuple[str, Other]], after: str, form: Form) -> Step:
    row = tuple((before, value.step) for before, value in pairs)

    def step(context: BoundedContext, parts: Parts) -> None:
        for before, write in row:
            parts.append(before)
            write(context, parts)
        parts.append(after)

    return step


_ROWS: dict[type[Value], Callable[[Any, str, Form], Step]] = {
    Named: _named,
    Linked: _linked,
    Other: _others,
}


def looked_up(look: Evaluate, write: WriteValue, otherwise: Step, form: Form) -> Step:
    """Return the step of a value that `look` finds; `otherwise` where the library must decide."""
    known = form.memo.get

    def step(context: BoundedContext, parts: Parts) -> None:
        try:
            value = look(context)
        except MISSING:
            return otherwise(context, parts)
        written = known(value) if type(value) is str else None
        if written is None:
            return write(value, context, parts)
        return parts.append(written)

    return step


def own_url(name: str, write: WriteValue, form: Form, column: int) -> Step:
    """Return the step of one of the product's URLs; `write` for one that may need code."""

    def step(context: BoundedContext, parts: Parts) -> None:
        url: Any = context.globals.get(name)
        if context.has_clean_urls and url:
            parts.append(form.place_clean(url, column))
        else:
            write(url, context, parts)

    return step


def plain_value(fallback: str | None, otherwise: Step, form: Form, column: int) -> WriteValue:
    """Return a function that writes a text or a number; `otherwise` writes other values.

    `fallback` stands for a blank text.
    """
    place, tail = form.place, form.tail
    blank = None if fallback is None else form.finished(fallback, column)  # not escaped

    def write(value: object, context: BoundedContext, parts: Parts) -> None:
        if type(value) is not str:
            if type(value) is int and -_BIG < value < _BIG:
                return parts.append(f"{value}{tail}")
            return otherwise(context, parts)
        if blank is not None and not value.strip():
            return parts.append(blank)
        parts.append(place(value, column))
        return context.count() if len(value) > _LONG else None

    return write


def computed_value(value: Evaluate, form: Form, column: int) -> Step:
    """Return the step of any other output."""
    html, finished = form.html, form.finished

    def step(context: BoundedContext, parts: Parts) -> None:
        text = str(to_liquid_string(value(context), html))
        parts.append(finished(text, column))
        if len(text) > _LONG:
            context.count()

    return step
