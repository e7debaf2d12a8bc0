"""Custom attributes: a text becomes a value of its type, and a contact becomes variables."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from esp.lib.errors import InvalidInput
from sending.audience.models import AttributeDefinition, Contact

Value = str | int | float | bool

MAX_TEXT = 1_000
# Words that templates know already (`docs/content.md`): an attribute would hide them, or be hidden.
RESERVED: Final = frozenset(
    (
        *("email", "first_name", "last_name", "contact", "postal_address"),
        *("unsubscribe_url", "preferences_url", "view_url"),
        *("blank", "empty", "nil", "null", "true", "false", "forloop", "tablerowloop"),
        *("now", "today"),
    )
)
_DATE_FORMATS = ("%Y-%m-%d", "%d.%m.%Y", "%Y/%m/%d")
_YES = frozenset({"true", "yes", "y", "1", "on"})
_NO = frozenset({"false", "no", "n", "0", "off"})
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

# What a campaign's message keeps of a contact beside the names and the normalised address: the
# attributes as they are stored, since merging three fields into them costs as much as reading them.
KEPT_SQL: Final = (
    "CASE WHEN c.email = c.email_norm THEN c.attributes "
    "ELSE c.attributes || jsonb_build_object('email', c.email) END"
)

# The same shape as `variables_of`, in SQL, for a table aliased `c`. By arrays: jsonb_build_object
# looks the type of each argument up for every row.
VARIABLES_SQL: Final = (
    "(c.attributes || jsonb_object(ARRAY['email', 'first_name', 'last_name'], "
    "ARRAY[c.email, c.first_name, c.last_name]::text[]))"
)


def variables_of(contact: Contact) -> dict[str, Any]:
    """Return what templates know of a contact: its attributes by key, address and names."""
    return {
        **contact.attributes,
        "email": contact.email,
        "first_name": contact.first_name,
        "last_name": contact.last_name,
    }


def _text(raw: str) -> Value:
    if len(raw) > MAX_TEXT:
        raise InvalidInput(f"is longer than {MAX_TEXT:,} characters")
    if _CONTROL.search(raw):
        raise InvalidInput("holds a control character")
    return raw


def _number(raw: str) -> Value:
    plain = raw.replace(" ", "").replace(" ", "").replace(" ", "")
    if re.fullmatch(r"[+-]?\d{1,15}", plain):
        return int(plain)
    if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?", plain):
        plain = plain.replace(",", "")
    elif re.fullmatch(r"[+-]?\d+,\d+", plain):
        plain = plain.replace(",", ".")
    try:
        value = Decimal(plain)
    except InvalidOperation:
        raise InvalidInput(f"“{raw[:40]}” is not a number") from None
    if not value.is_finite() or abs(value) >= Decimal(10) ** 15:
        raise InvalidInput(f"“{raw[:40]}” is not a number that can be kept")
    return int(value) if value == value.to_integral_value() else float(value)


def _date(raw: str) -> Value:
    for form in _DATE_FORMATS:
        try:
            return dt.datetime.strptime(raw[:10], form).date().isoformat()  # noqa: DTZ007
        except ValueError:
            continue
    raise InvalidInput(f"“{raw[:40]}” is not a date; write it as 2026-12-31")


def _boolean(raw: str) -> Value:
    word = raw.lower()
    if word in _YES:
        return True
    if word in _NO:
        return False
    raise InvalidInput(f"“{raw[:40]}” is neither yes nor no")


_PARSERS: Final[Mapping[str, Callable[[str], Value]]] = {
    AttributeDefinition.Kind.TEXT: _text,
    AttributeDefinition.Kind.NUMBER: _number,
    AttributeDefinition.Kind.DATE: _date,
    AttributeDefinition.Kind.BOOLEAN: _boolean,
}


def parser_of(kind: str) -> Callable[[str], Value]:
    """Return the function that reads a stripped, non-empty text of this kind."""
    return _PARSERS[kind]


def parse_value(definition: AttributeDefinition, raw: object) -> Value | None:
    """Return `raw` (text, number or boolean) as a value of the attribute; None for an empty one.

    Raises InvalidInput with the attribute's key as field.
    """
    if raw is None:
        return None
    if isinstance(raw, bool):
        text = "true" if raw else "false"
    elif isinstance(raw, str | int | float):
        text = str(raw).strip()
    else:
        raise InvalidInput(
            f"{definition.label} must be a text, a number or yes/no.",
            field=f"attributes.{definition.key}",
        )
    if not text:
        return None
    try:
        return _PARSERS[definition.kind](text)
    except InvalidInput as error:
        raise InvalidInput(
            f"{definition.label}: {error.message}.", field=f"attributes.{definition.key}"
        ) from error
