"""A row of a file becomes a contact's fields, or a reason why it cannot."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
import uuid_utils

from esp.lib.addresses import parse_address
from esp.lib.errors import InvalidInput
from sending.audience import import_mapping
from sending.audience.attributes import Value, parser_of
from sending.audience.csv_source import Dialect, Row

REASON_DUPLICATE: Final = "the address stands in this file before"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MAX_NAME: Final = 100


@dataclass(slots=True)
class CleanRow:
    """What a good row holds; the address in the form to send to and the form to compare."""

    email: str
    email_norm: str
    first_name: str
    last_name: str
    attributes: dict[str, Any]

    def copy_line(self) -> str:
        """Return the row as COPY reads it, under a fresh key, without tenant, list and line end.

        Backslashes alone need escaping: neither addresses nor names may hold control characters,
        and JSON escapes those in its texts.
        """
        attributes = orjson.dumps(self.attributes).decode() if self.attributes else "{}"
        line = (
            f"{uuid_utils.uuid7()}\t{self.email}\t{self.email_norm}\t{self.first_name}\t"
            f"{self.last_name}\t{attributes}"
        )
        return line.replace("\\", "\\\\") if "\\" in line else line


class BadRow(Exception):
    """The row cannot be imported; `category` is for counting, `reason` for people."""

    def __init__(self, category: str, reason: str) -> None:
        super().__init__(reason)
        self.category = category
        self.reason = reason


class SeenAddresses:
    """A set of addresses in 8 bytes each at most half full: open addressing over 64-bit hashes.

    A Python set of a million texts takes 150 MB; this takes 16. Two different addresses meet with
    a chance of n²/2⁶⁵ (0.000003 % for a million).
    """

    def __init__(self) -> None:
        self._mask = (1 << 12) - 1
        self._table = array("Q", bytes(8 * (self._mask + 1)))
        self._used = 0

    def add(self, text: str) -> bool:
        """Add `text`; tell whether it was new."""
        if self._used * 2 > self._mask:
            self._grow()
        return self._put(hash(text) & 0xFFFFFFFFFFFFFFFF or 1)

    def _put(self, value: int) -> bool:
        mask, table = self._mask, self._table
        place = value & mask
        while table[place]:
            if table[place] == value:
                return False
            place = (place + 1) & mask
        table[place] = value
        self._used += 1
        return True

    def _grow(self) -> None:
        old = self._table
        self._mask = (self._mask + 1) * 4 - 1
        self._table = array("Q", bytes(8 * (self._mask + 1)))
        self._used = 0
        for value in old:
            if value:
                self._put(value)


class RowCleaner:
    """Turns rows of one file into `CleanRow`s by a mapping and the attributes' types."""

    def __init__(
        self, dialect: Dialect, mapping: import_mapping.Mapping, kinds: Mapping[str, str]
    ) -> None:
        self._columns = dialect.columns
        self._mapping = mapping
        self._attributes: list[tuple[int, str, Callable[[str], Value]]] = [
            (index, key, parser_of(kinds[key])) for index, key in mapping.attributes
        ]

    def clean(self, row: Row) -> CleanRow:
        """Return the row's fields; raises BadRow."""
        if row.problem:
            raise BadRow("malformed", row.problem)
        cells = row.cells
        if len(cells) != self._columns:
            self._check_width(cells)
        mapping = self._mapping
        raw = cells[mapping.email].strip()
        if not raw:
            raise BadRow("no-address", "the e-mail address is missing")
        try:
            address = parse_address(raw)
        except InvalidInput as error:
            raise BadRow("invalid-address", error.message.rstrip(".")) from None
        return CleanRow(
            email=address.addr_spec,
            email_norm=address.normalised,
            first_name=self._name(cells, mapping.first_name),
            last_name=self._name(cells, mapping.last_name),
            attributes=self._values(cells) if self._attributes else {},
        )

    def _check_width(self, cells: list[str]) -> None:
        """Missing cells at the end are empty; cells too many mean that columns have slipped."""
        extra = cells[self._columns :]
        if any(cell.strip() for cell in extra):
            raise BadRow("ragged", f"the row has {len(cells)} cells, the file {self._columns}")
        if len(cells) < self._columns:
            if len(cells) <= self._mapping.email:
                raise BadRow("ragged", f"the row has {len(cells)} cells, the file {self._columns}")
            cells.extend([""] * (self._columns - len(cells)))

    @staticmethod
    def _name(cells: list[str], index: int | None) -> str:
        if index is None:
            return ""
        name = cells[index].strip()
        if len(name) > _MAX_NAME:
            raise BadRow("invalid-value", f"a name is longer than {_MAX_NAME} characters")
        if _CONTROL.search(name):
            raise BadRow("invalid-value", "a name holds a control character or a line break")
        return name

    def _values(self, cells: list[str]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for index, key, parse in self._attributes:
            raw = cells[index].strip()
            if not raw:
                continue
            try:
                values[key] = parse(raw)
            except InvalidInput as error:
                raise BadRow("invalid-value", f"{key}: {error.message}") from None
        return values
