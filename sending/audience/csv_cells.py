"""Cells of CSV files that we write: a spreadsheet must not run them.

OWASP "CSV injection": a cell that begins with = + - @ tab or carriage return is a formula to a
spreadsheet. A leading apostrophe makes it text. Plain numbers stay as they are.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable

_DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "\n")
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?\Z")


def safe_cell(value: object) -> str:
    """Return the text of a cell; what a spreadsheet would run gets a leading apostrophe."""
    text = "" if value is None else str(value)
    if text.startswith(_DANGEROUS) and not _NUMBER.match(text):
        return f"'{text}"
    return text


def csv_line(values: Iterable[object]) -> str:
    """Return one line of CSV (RFC 4180) with every cell made safe."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow([safe_cell(value) for value in values])
    return buffer.getvalue()
