"""Liquid expressions as Python closures: the common ones, with the same values as the library's.

A closure that meets anything out of the ordinary (a missing name, a value that is not plain) asks
the library, so that there is one truth about what Liquid means. A look-up takes 0.1 µs here and
2 µs in the library; a newsletter has some thirty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from liquid.builtin.expressions import (
    BooleanExpression,
    FilteredExpression,
    Path,
    PositionalArgument,
    StringLiteral,
)
from liquid.builtin.expressions.logical import (
    EqExpression,
    LogicalAndExpression,
    LogicalOrExpression,
    NeExpression,
    is_truthy,
)
from liquid.builtin.expressions.primitive import IntegerLiteral
from liquid.exceptions import FilterArgumentError, LiquidTypeError
from liquid.expression import Expression
from markupsafe import Markup

from sending.content.bounds import BoundedContext
from sending.content.filters import FILTERS

Evaluate = Callable[[BoundedContext], Any]

MISSING = (KeyError, TypeError, IndexError)  # what a look-up raises where the library must decide
_CONSTANTS = (StringLiteral, IntegerLiteral)
_SHORT = 256  # characters or items of what is remembered
_MEMO = 512  # results of one template, which may have thousands of filters
_SPECIAL = frozenset({"size", "first", "last"})


@dataclass(frozen=True, slots=True)
class Names:
    """What the place of an expression in its template says of names.

    `assigned` are set somewhere in the template; `loops` are the variables of the loops around,
    the outermost first. `memo` is the template's memory of what filters made.
    """

    assigned: frozenset[str]
    loops: tuple[str, ...] = ()
    memo: dict[tuple[int, str], Any] = field(default_factory=dict)

    def inside(self, variable: str) -> Names:
        """Return the names inside a loop over `variable`."""
        return Names(self.assigned, (*self.loops, variable), self.memo)


def look_up(path: Expression, names: Names) -> Evaluate | None:
    """Return a function that looks `path` up, or None for a path that is not simple.

    The function raises one of MISSING where the library must be asked.
    """
    if not isinstance(path, Path):
        return None
    parts = [part for part in path.path if isinstance(part, str)]
    if len(parts) != len(path.path) or _SPECIAL & set(parts[1:]):
        return None
    root = _root(parts[0], names)
    if len(parts) == 1:
        return root
    rest = tuple(parts[1:])

    def nested(context: BoundedContext) -> Any:
        value = root(context)
        for part in rest:
            value = value[part]
        return value

    return nested


def _root(name: str, names: Names) -> Evaluate:
    for depth in range(len(names.loops) - 1, -1, -1):
        if name in ("forloop", names.loops[depth]):
            return lambda context, depth=depth + 1: context.frames[depth][name]  # type: ignore[misc]
    if name not in names.assigned:
        return lambda context: context.globals[name]

    def anywhere(context: BoundedContext) -> Any:
        return context.locals[name] if name in context.locals else context.globals[name]

    return anywhere


def place_of(path: Expression, names: Names) -> tuple[int, str] | None:
    """Return the one of `context.frames` that can hold `path`, and its name there.

    None for a path of several names, and for a name that the template assigns.
    """
    if not isinstance(path, Path) or len(path.path) != 1 or not isinstance(path.path[0], str):
        return None
    name = path.path[0]
    if name == "forloop":
        return None
    for depth in range(len(names.loops), 0, -1):
        if name == names.loops[depth - 1]:
            return depth, name
    return None if name in names.assigned else (0, name)


def evaluator(expression: Expression, names: Names, *, html: bool) -> Evaluate:
    """Return a function with the value of `expression`; it raises what the library raises."""
    if isinstance(expression, FilteredExpression):
        return _filtered(expression, names, html=html)
    if isinstance(expression, StringLiteral):
        text = Markup(expression.value) if html else expression.value  # noqa: S704 (the author's own text)
        return lambda context: text
    if isinstance(expression, IntegerLiteral):
        number = expression.value
        return lambda context: number
    found = look_up(expression, names)
    if found is None:
        return expression.evaluate
    look = found

    def value(context: BoundedContext) -> Any:
        try:
            return look(context)
        except MISSING:
            return expression.evaluate(context)

    return value


def _filtered(expression: FilteredExpression, names: Names, *, html: bool) -> Evaluate:
    first = value = evaluator(expression.left, names, html=html)
    filters = expression.filters or ()
    arguments = [one.args for one in filters]
    for one in filters:
        if one.name not in FILTERS or not all(isinstance(a, PositionalArgument) for a in one.args):
            return expression.evaluate
        value = _one_filter(
            value, one, [evaluator(argument.value, names, html=html) for argument in one.args]
        )
    is_fixed = all(isinstance(a.value, _CONSTANTS) for some in arguments for a in some)
    if not filters or not is_fixed or "date" in {one.name for one in filters}:
        return value
    return _remembered(first, value, names.memo)


def _remembered(first: Evaluate, whole: Evaluate, memo: dict[tuple[int, str], Any]) -> Evaluate:
    """Return `whole`, which depends on the value of `first` alone, with a memory of results.

    A filter takes 3 to 5 µs; what goes in repeats (an address, interests, plans).
    """
    chain = id(whole)  # as long as the template lives

    def value(context: BoundedContext) -> Any:
        left = first(context)
        if type(left) is not str or len(left) > _SHORT:
            return whole(context)
        found = memo.get((chain, left))
        if found is None:
            found = whole(context)
            if not isinstance(found, (str, list)) or len(found) > _SHORT:
                return found
            if len(memo) >= _MEMO:
                memo.clear()
            memo[chain, left] = found
        return found[:] if type(found) is list else found

    return value


def _one_filter(value: Evaluate, one: Any, arguments: Sequence[Evaluate]) -> Evaluate:
    function, token, name = FILTERS[one.name], one.token, one.name
    kwargs_name = "context" if getattr(function, "with_context", False) else ""

    def filtered(context: BoundedContext) -> Any:
        left = value(context)
        values = [argument(context) for argument in arguments]
        try:
            if kwargs_name:
                return function(left, *values, context=context)
            return function(left, *values)
        except TypeError as error:
            raise LiquidTypeError(f"{name}: {error}", token=token) from error
        except (LiquidTypeError, FilterArgumentError) as error:
            error.token = token
            raise

    return filtered


def condition(expression: Expression, names: Names) -> Evaluate:
    """Return a function that says whether `expression` is true."""
    if isinstance(expression, BooleanExpression):
        return condition(expression.expression, names)
    if isinstance(expression, LogicalAndExpression):
        left, right = condition(expression.left, names), condition(expression.right, names)
        return lambda context: left(context) and right(context)
    if isinstance(expression, LogicalOrExpression):
        left, right = condition(expression.left, names), condition(expression.right, names)
        return lambda context: left(context) or right(context)
    if isinstance(expression, (EqExpression, NeExpression)):
        return _comparison(expression, names)
    value = evaluator(expression, names, html=False) if isinstance(expression, Path) else None
    truth = value or expression.evaluate

    def is_true(context: BoundedContext) -> bool:
        found = truth(context)
        return True if type(found) is str else is_truthy(found)

    return is_true


def _comparison(expression: EqExpression | NeExpression, names: Names) -> Evaluate:
    """Return the comparison of a text with a constant; others are the library's."""
    look = look_up(expression.left, names)
    if look is None or not isinstance(expression.right, StringLiteral):
        return lambda context: bool(expression.evaluate(context))
    text, wanted = expression.right.value, isinstance(expression, EqExpression)

    def compared(context: BoundedContext) -> bool:
        try:
            value = look(context)
        except MISSING:
            value = None
        if type(value) is str:
            return (value == text) is wanted
        return bool(expression.evaluate(context))

    return compared
