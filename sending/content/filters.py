"""The Liquid filters that tenants may use, each with a bound on what goes in and what comes out.

python-liquid's own functions do the work where they are safe; what they would do without a bound
(replace, join, split, date) is checked first or written anew. Figures: research of 2026-11, where
33 attacks on the unbounded set took up to gigabytes.
"""

from __future__ import annotations

import datetime as dt
import functools
import html
import re
from collections.abc import Callable, Mapping
from typing import Any

from liquid.builtin.filters import array, math, misc, string
from liquid.exceptions import FilterArgumentError
from liquid.undefined import is_undefined

MAX_STRING = 64 * 1024
MAX_ITEMS = 2_000
MAX_NUMBER = 10**40

_DATE_FORMAT = re.compile(r"%([-_]?)(.)")
_DATE_CODES = frozenset("aAbBcdeDFgGHIjklmMnpPrRsSTuUVwWxXyYzZ%hCLN")


def _fail(message: str) -> FilterArgumentError:
    return FilterArgumentError(message, token=None)


def check_value(value: object) -> object:
    """Return `value`; raise when it is larger than any value may be."""
    if isinstance(value, str):
        if len(value) > MAX_STRING:
            raise _fail("a text grew too long")
    elif isinstance(value, bool) or value is None:
        pass
    elif isinstance(value, int):
        if not -MAX_NUMBER < value < MAX_NUMBER:
            raise _fail("a number grew too large")
    elif isinstance(value, range):
        # not len(): it overflows for ranges above sys.maxsize
        if value.stop - value.start > MAX_ITEMS:
            raise _fail("a range is too long")
    elif isinstance(value, (list, tuple, Mapping)) and len(value) > MAX_ITEMS:
        raise _fail("a list grew too long")
    return value


def _total_length(items: object) -> int:
    if not isinstance(items, (list, tuple)):
        return 0
    return sum(len(item) if isinstance(item, str) else 40 for item in items)


def bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a filter: check the deadline, every argument and the result."""
    needs_environment = getattr(function, "with_environment", False)

    @functools.wraps(function)
    def wrapper(left: object, *args: object, context: Any, **kwargs: object) -> object:
        context.tick()
        check_value(left)
        for argument in args:
            check_value(argument)
        if kwargs:
            raise _fail("this filter takes no named arguments")
        if needs_environment:
            return check_value(function(left, *args, environment=context.env))
        return check_value(function(left, *args))

    wrapper.with_context = True  # type: ignore[attr-defined]
    wrapper.with_environment = False  # type: ignore[attr-defined]
    return wrapper


def _replace(left: object, seq: object = "", sub: object = "") -> object:
    text, old, new = _text(left), _text(seq), _text(sub)
    if old == "":
        raise _fail("replace needs a text to look for")
    if len(text) + text.count(old) * (len(new) - len(old)) > MAX_STRING:
        raise _fail("a text grew too long")
    return string.replace(text, old, new)


def _join(left: object, separator: object = " ", *, environment: Any) -> object:
    glue = _text(separator)
    if isinstance(left, (list, tuple)):
        if _total_length(left) + len(left) * len(glue) > MAX_STRING:
            raise _fail("a text grew too long")
    elif isinstance(left, range) and len(left) * (len(glue) + 20) > MAX_STRING:
        raise _fail("a text grew too long")
    return array.join(left, glue, environment=environment)


def _split(left: object, separator: object = " ") -> object:
    text = _text(left)
    glue = _text(separator)
    pieces = text.count(glue) + 1 if glue else len(text)
    if glue == " ":
        pieces = len(text.split(None, MAX_ITEMS + 1))
    if pieces > MAX_ITEMS:
        raise _fail("a list grew too long")
    return string.split(text, glue)


def _sort_keys(left: object) -> None:
    if _total_length(left) > MAX_STRING:
        raise _fail("a list is too long to sort")


def _sort(left: object, *args: object) -> object:
    _sort_keys(left)
    return array.sort(left, *args)


def _sort_natural(left: object, *args: object) -> object:
    _sort_keys(left)
    return array.sort_natural(left, *args)


def _uniq(left: object, *args: object) -> object:
    # the library compares each item with each other one
    if isinstance(left, (list, tuple)) and len(left) > 200:
        raise _fail("a list is too long for uniq")
    return array.uniq(left, *args)


def _strip_html(left: object) -> str:
    """Drop tags in one pass (the library's parser is quadratic on many '<')."""
    first, *rest = _text(left).split("<")
    return first + "".join(piece.partition(">")[2] for piece in rest)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if value is None or is_undefined(value):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)) and _total_length(value) > MAX_STRING:
        raise _fail("a text grew too long")
    return str(value)


def _times(left: object, other: object = 0) -> object:
    return math.times(left, other)


def _round(left: object, digits: object = None) -> object:
    if isinstance(digits, (int, float, str)) and not re.fullmatch(r"\d{1,2}", str(digits)):
        raise _fail("round takes 0 to 99 digits")
    return math.round_(left, digits)


def _moment(value: object, now: dt.datetime) -> dt.datetime | None:
    if isinstance(value, dt.datetime):
        return value
    if isinstance(value, dt.date):
        return dt.datetime.combine(value, dt.time(), tzinfo=now.tzinfo)
    if isinstance(value, int) and not isinstance(value, bool):
        return _from_timestamp(value)
    if not isinstance(value, str):
        return None
    text = str(value).strip()
    if text in ("now", "today"):
        return now
    if text.isascii() and text.isdigit() and 9 <= len(text) <= 11:
        return _from_timestamp(int(text))
    try:
        return dt.datetime.fromisoformat(text) if len(text) <= 40 else None
    except ValueError:
        return None


def _from_timestamp(seconds: int) -> dt.datetime | None:
    try:
        return dt.datetime.fromtimestamp(seconds, tz=dt.UTC)
    except (OverflowError, OSError, ValueError):
        return None


def _date(left: object, form: object = "%Y-%m-%d", *, context: Any) -> object:
    """Format an ISO date, a date object, a Unix time or "now"; other values stay as they are.

    Widths (`%999999999Y` fills memory in the C library) and unknown codes are refused.
    """
    context.tick()
    check_value(left)
    moment = _moment(left, context.now)
    if moment is None:
        return left
    pattern = _text(form)
    if len(pattern) > 100:
        raise _fail("a date format may have 100 characters")
    return _DATE_FORMAT.sub(lambda match: _date_part(match, moment), pattern)


def _date_part(match: re.Match[str], moment: dt.datetime) -> str:
    flag, code = match.groups()
    if code not in _DATE_CODES:
        raise _fail(f"the date format %{code} is not known")
    if code == "L":
        return f"{moment.microsecond // 1000:03}"
    if code == "N":
        return f"{moment.microsecond:06}"
    try:
        text = moment.strftime(f"%{code}")
    except ValueError as error:
        raise _fail("this date cannot be formatted") from error
    return (text.lstrip("0 ") or "0") if flag == "-" else text


_date.with_context = True  # type: ignore[attr-defined]


def _default(left: object, fallback: object = "", **options: object) -> object:
    """Return `fallback` for an undefined, empty or false value (false stays with allow_false)."""
    allow_false = options.pop("allow_false", False)
    if options:
        raise _fail("default takes allow_false alone")
    if left is False and allow_false is True:
        return left
    blank = is_undefined(left) or left is None or left is False
    if not blank and isinstance(left, (str, list, tuple, dict)):
        blank = not left.strip() if isinstance(left, str) else not left
    return fallback if blank else left


def _newline_to_br(left: object, *, environment: Any) -> object:
    text = _text(left)
    if len(text) + 6 * text.count("\n") > MAX_STRING:
        raise _fail("a text grew too long")
    return string.newline_to_br(text, environment=environment)


_newline_to_br.with_environment = True  # type: ignore[attr-defined]
_join.with_environment = True  # type: ignore[attr-defined]


def _escape_once(left: object, *, environment: Any) -> object:
    unescaped = html.unescape(_text(left))
    return unescaped if environment.autoescape else html.escape(unescaped)


_escape_once.with_environment = True  # type: ignore[attr-defined]

_BOUNDED: dict[str, Callable[..., Any]] = {
    "abs": math.abs_,
    "at_most": math.at_most,
    "at_least": math.at_least,
    "ceil": math.ceil,
    "divided_by": math.divided_by,
    "floor": math.floor,
    "minus": math.minus,
    "plus": math.plus,
    "round": _round,
    "times": _times,
    "modulo": math.modulo,
    "capitalize": string.capitalize,
    "append": string.append,
    "downcase": string.downcase,
    "escape": string.escape,
    "escape_once": _escape_once,
    "lstrip": string.lstrip,
    "newline_to_br": _newline_to_br,
    "prepend": string.prepend,
    "remove": string.remove,
    "remove_first": string.remove_first,
    "remove_last": string.remove_last,
    "replace": _replace,
    "replace_first": string.replace_first,
    "replace_last": string.replace_last,
    "slice": string.slice_,
    "split": _split,
    "upcase": string.upcase,
    "strip": string.strip,
    "rstrip": string.rstrip,
    "strip_html": _strip_html,
    "strip_newlines": string.strip_newlines,
    "truncate": string.truncate,
    "truncatewords": string.truncatewords,
    "url_encode": string.url_encode,
    "url_decode": string.url_decode,
    "squish": string.squish,
    "join": _join,
    "first": array.first,
    "last": array.last,
    "concat": array.concat,
    "map": array.map_,
    "reverse": array.reverse,
    "sort": _sort,
    "sort_natural": _sort_natural,
    "sum": array.sum_,
    "where": array.where,
    "uniq": _uniq,
    "compact": array.compact,
    "size": misc.size,
}

FILTERS: dict[str, Callable[..., Any]] = {
    name: bounded(function) for name, function in _BOUNDED.items()
}
FILTERS["date"] = _date
FILTERS["default"] = _default
