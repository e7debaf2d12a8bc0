"""Where things stand in a TOML file: tomllib gives values without line numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping

Path = tuple[str | int, ...]

_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\''
    r"|#[^\n]*|[\[\]{}=,\n]|[^\s\[\]{}=,#\"']+",
    re.DOTALL,
)
_HEADER = re.compile(r"(\[\[?)([^\]\n]+)\]")


def line_numbers(text: str) -> Mapping[Path, int]:
    """Return the line (from 1) of every table, key and element of an array in a valid file.

    A path is made of names and, for arrays (of tables too), places from 0: ("rule", 3, "text", 0).
    What stands inside an inline table has the line of the key that it belongs to.
    """
    scan = _Scan()
    for match in _TOKEN.finditer(text):
        scan.take(match[0], _HEADER.match(text, match.start()))
    return scan.found


class _Scan:
    def __init__(self) -> None:
        self.found: dict[Path, int] = {}
        self._line = 1
        self._table: Path = ()
        self._counts: dict[Path, int] = {}
        self._key: Path = ()
        self._depth = 0
        self._element = 0
        self._state = "start"  # of a line, then "header", "key" or "value"

    def take(self, piece: str, header: re.Match[str] | None) -> None:
        if piece == "\n":
            if self._depth == 0:
                self._state = "start"
        elif piece.startswith("#") or self._state == "header":
            pass
        elif self._state == "start":
            if piece == "[" and header is not None:
                self._open_table(header)
            else:
                self._open_key(piece)
        elif self._state == "key":
            self._state = "value" if piece == "=" else "key"
        else:
            self._value(piece)
        self._line += piece.count("\n")

    def _open_table(self, header: re.Match[str]) -> None:
        path: Path = tuple(part.strip(" \"'") for part in header[2].split("."))
        if header[1] == "[[":
            self._counts[path] = self._counts.get(path, -1) + 1
            path = (*path, self._counts[path])
        self._table = path
        for length in range(1, len(path)):
            self.found.setdefault(path[:length], self._line)
        self.found[path] = self._line
        self._state = "header"

    def _open_key(self, piece: str) -> None:
        self._key = (*self._table, *piece.strip("\"'").split("."))
        self.found[self._key] = self._line
        self._state = "key"

    def _value(self, piece: str) -> None:
        if piece in "[{":
            self._depth += 1
            if self._depth == 1:
                self._element = 0
                return
        elif piece in "]}":
            self._depth -= 1
        elif piece == "," and self._depth == 1:
            self._element += 1
            return
        if self._depth >= 1:
            self.found.setdefault((*self._key, self._element), self._line)
