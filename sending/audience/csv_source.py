"""Reading an uploaded CSV file: what it is written in, and its rows one by one.

Nothing here holds more than one record, whatever the file does: lines and records are bounded,
broken quotes cost the row they stand in, and every row knows where the next one begins, so that
reading resumes there. `normalise` brings every file to UTF-8 with line feeds first; the offsets
below are bytes of that copy.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final

from esp.lib.errors import InvalidInput

MAX_RECORD: Final = 64 * 1024  # bytes of one row
MAX_RECORD_LINES: Final = 50  # a quoted cell may hold line breaks, a forgotten quote holds more
MAX_COLUMNS: Final = 200
_CHUNK: Final = 1024 * 1024
_SAMPLE: Final = 256 * 1024
_SIGNATURES: Final = {
    b"PK\x03\x04": "an Excel or ZIP file",
    b"\xd0\xcf\x11\xe0": "an old Excel file",
    b"%PDF": "a PDF",
    b"\x1f\x8b": "a compressed file",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
}

REASON_LONG: Final = f"the row is longer than {MAX_RECORD // 1024} KB"
REASON_NUL: Final = "the row contains a NUL character"
REASON_BYTES: Final = "the row contains bytes that are not valid in the file's encoding"
REASON_QUOTE: Final = "a quotation mark is never closed"
REASON_QUOTES: Final = "the quotation marks are not well placed"


@dataclass(frozen=True)
class Dialect:
    """What a file is written in. `has_header` may be changed by the person who imports."""

    encoding: str
    delimiter: str
    has_header: bool
    columns: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Dialect:
        return cls(
            encoding=str(data["encoding"]),
            delimiter=str(data["delimiter"]),
            has_header=bool(data["has_header"]),
            columns=int(data["columns"]),
        )


@dataclass(slots=True)
class Row:
    """One record. `end` is the offset behind it; `problem` says why `cells` cannot be used."""

    number: int
    end: int
    cells: list[str]
    problem: str = ""


def refuse_other_formats(head: bytes, filename: str) -> None:
    """Raise InvalidInput when the first bytes are of something that is not text."""
    if not head:
        raise InvalidInput("The file is empty.", code="import-empty", field="file")
    for signature, name in _SIGNATURES.items():
        if head.startswith(signature):
            raise InvalidInput(
                f"“{filename[:80]}” is {name}, not CSV. Save it as CSV (UTF-8) and try again.",
                code="import-not-csv",
                field="file",
            )


def detect_encoding(path: Path) -> str:
    """Return `utf-8-sig`, `utf-16`, `utf-8` or `cp1252` for the file.

    A file that is not valid UTF-8 is still taken for UTF-8 when most of what is not ASCII in it
    decodes: then a few rows are damaged. Otherwise it is Windows-1252, as spreadsheets write.
    """
    with path.open("rb") as file:
        head = file.read(4)
        if head.startswith(codecs.BOM_UTF8):
            return "utf-8-sig"
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        file.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        good = bad = 0
        while chunk := file.read(_CHUNK):
            if chunk.isascii():
                continue
            text = decoder.decode(chunk)
            broken = text.count("�")
            bad += broken
            good += len(text) - len(text.encode("ascii", "ignore")) - broken
    return "utf-8" if bad <= good else "cp1252"


def normalise(source: Path, target: Path, encoding: str) -> None:
    """Write `source` as UTF-8 with line feeds to `target`, a megabyte at a time.

    Bytes that the encoding does not know stay bad (a lone 0xFF), so that their row is refused.
    """
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    pending_return = False
    with source.open("rb") as reader, target.open("wb") as writer:
        while True:
            chunk = reader.read(_CHUNK)
            text = decoder.decode(chunk, final=not chunk)
            if pending_return:
                text = "\r" + text
            pending_return = text.endswith("\r") and bool(chunk)
            if pending_return:
                text = text[:-1]
            if "\r" in text:
                text = text.replace("\r\n", "\n").replace("\r", "\n")
            writer.write(text.encode("utf-8", "surrogatepass").replace(b"\xef\xbf\xbd", b"\xff"))
            if not chunk:
                return


def _delimiter_of(lines: list[str]) -> str:
    """Return the candidate that splits the first lines most evenly into most columns."""
    best, best_score = ",", 0.0
    for candidate in (",", ";", "\t", "|"):
        widths = []
        for line in lines:
            try:
                widths.append(len(next(csv.reader([line], delimiter=candidate), [])))
            except csv.Error:
                continue
        if not widths or max(widths) < 2:
            continue
        usual = max(set(widths), key=widths.count)
        score = widths.count(usual) / len(widths) * (1 + min(usual, 30) / 100)
        if usual > 1 and score > best_score:
            best, best_score = candidate, score
    return best


def describe(path: Path, encoding: str) -> tuple[Dialect, list[list[str]]]:
    """Return the dialect of a normalised file and its first rows (header included, at most 11).

    Raises InvalidInput when there is no row that can be read.
    """
    with path.open("rb") as file:
        sample = file.read(_SAMPLE)
    lines = sample.decode("utf-8", "replace").split("\n")
    delimiter = _delimiter_of([line[:MAX_RECORD] for line in lines[:60] if line.strip()][:50])
    plain = Dialect(encoding, delimiter, has_header=False, columns=0)
    first: list[list[str]] = []
    for row in read_rows(path, plain, limit=200):
        if not row.problem:
            first.append(row.cells)
        if len(first) == 11:
            break
    if not first:
        raise InvalidInput(
            "No row of this file can be read as CSV.", code="import-unreadable", field="file"
        )
    widths = [len(cells) for cells in first]
    columns = max(widths[0], max(set(widths), key=widths.count))  # a ragged row does not widen it
    if columns > MAX_COLUMNS:
        raise InvalidInput(
            f"The file has {columns} columns; at most {MAX_COLUMNS} can be read.",
            code="import-too-wide",
            field="file",
        )
    has_header = not any("@" in cell for cell in first[0])
    return Dialect(encoding, delimiter, has_header, columns), first


def read_rows(
    path: Path, dialect: Dialect, *, offset: int = 0, number: int = 0, limit: int | None = None
) -> Iterator[Row]:
    """Yield the rows of a normalised file that begin at `offset`; `number` rows lie before it.

    The header, where there is one, is row 1 and is yielded too. Empty lines are passed over.
    """
    with path.open("rb") as file:
        file.seek(offset)
        reader = _RecordReader(file, offset)
        while limit is None or limit > 0:
            record = reader.next()
            if record is None:
                return
            if not record.data.strip() and not record.problem:
                continue
            number += 1
            if limit is not None:
                limit -= 1
            yield _row(number, record, dialect.delimiter)


@dataclass(slots=True)
class _Record:
    data: bytes
    end: int
    problem: str = ""


class _RecordReader:
    """Joins lines to records by the parity of quotation marks, within bounds."""

    def __init__(self, file: IO[bytes], offset: int) -> None:
        self._file = file
        self._offset = offset

    def next(self) -> _Record | None:
        line = self._file.readline(MAX_RECORD + 1)
        if not line:
            return None
        if len(line) > MAX_RECORD:
            return self._skip_long(line)
        self._offset += len(line)
        if line.count(b'"') % 2 == 0:
            return _Record(line, self._offset)
        return self._join(line)

    def _skip_long(self, start: bytes) -> _Record:
        self._offset += len(start)
        line = start
        while line and not line.endswith(b"\n"):
            line = self._file.readline(MAX_RECORD)
            self._offset += len(line)
        return _Record(start[:200], self._offset, REASON_LONG)

    def _join(self, first: bytes) -> _Record:
        """Return the record that goes on over further lines, or the first line as broken."""
        parts, size, end = [first], len(first), self._offset
        for _ in range(MAX_RECORD_LINES):
            line = self._file.readline(MAX_RECORD + 1)
            size += len(line)
            if not line or size > MAX_RECORD:
                break
            parts.append(line)
            end += len(line)
            if line.count(b'"') % 2 == 1:
                self._offset = end
                return _Record(b"".join(parts), end)
        self._file.seek(self._offset)  # the rows after the broken one are read again, as rows
        return _Record(first, self._offset, REASON_QUOTE)


def _row(number: int, record: _Record, delimiter: str) -> Row:
    problem, data = record.problem, record.data
    if not problem and b"\x00" in data:
        problem = REASON_NUL
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("utf-8", "replace")
        problem = problem or REASON_BYTES
    text = text.rstrip("\n")
    if problem:
        return Row(number, record.end, [text.replace("\x00", "␀")[:200]], problem)
    if '"' not in text:
        return Row(number, record.end, text.split(delimiter))
    try:
        cells = next(csv.reader([text], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return Row(number, record.end, [text[:200]], REASON_QUOTES)
    return Row(number, record.end, cells)
