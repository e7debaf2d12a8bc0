"""Quoted-printable (RFC 2045 section 6.7) in pieces: constants once a content, values per message.

Encoding a whole rendered part took 0.2 ms of CPU a message. Here every piece is encoded for itself
and ends at the start of a line: with a line end of its own, or with a soft line break, which
decoding takes away again. So what follows a piece never depends on it, and a constant is encoded
once for all messages. A value goes on the line of the constant before it.

The result is also a fixed point of DKIM's relaxed body canonicalization (RFC 6376 section 3.4.4):
no run of blanks (the second is "=20"), no tab, no blank before a line end. The signer can hash the
body as it is. A soft break never stands on a line of its own, so that empty lines of the text are
empty lines of the code, and can be counted there.
"""

from __future__ import annotations

import re

from markupsafe import escape

WIDTH = 75  # columns before the "=" of a soft line break; 76 with it
SOFT = "=\r\n"
_LAST_COLUMN = 40  # a constant that ends further right leaves the next line to the value
_FITS = WIDTH - _LAST_COLUMN  # columns that are free behind every constant
_MEMO = 4096  # values kept in coded form: names, places and plans repeat

_CLEAN = re.compile(r"[!-<>-~]+(?: [!-<>-~]+)*").fullmatch
_CLEAN_HTML = re.compile(r"[!#-%(-;?-~]+(?: [!#-%(-;?-~]+)*").fullmatch
_ESCAPES = {
    byte: f"={byte:02X}" for byte in range(256) if not 32 <= byte <= 126 or byte == ord("=")
}


def is_clean(text: str) -> bool:
    """Say whether `text` is written as it is in every form, but for soft breaks."""
    return _CLEAN_HTML(text) is not None


def quote_line(line: str, *, is_ended: bool = True) -> str:
    """Return one line of text (no line end in it) in code that is not wrapped yet.

    A blank at its end is escaped where the line's end `is_ended` by a real line break.
    """
    if _CLEAN(line):
        return line
    code = line.encode("utf-8", "replace").decode("latin-1").translate(_ESCAPES)
    code = code.replace("  ", " =20")
    return f"{code[:-1]}=20" if is_ended and code.endswith(" ") else code


def wrap(code: str, column: int = 0) -> str:
    """Return `code`, which begins at `column`, with soft breaks before column 76 is passed."""
    room = WIDTH - column
    if len(code) <= room:
        return code
    pieces, start = [], 0
    while len(code) - start > room:
        end = start + room
        if code[end - 1] == "=":
            end -= 1
        elif code[end - 2] == "=":
            end -= 2
        pieces.append(code[start:end])
        start, room = end, WIDTH
    pieces.append(code[start:])
    return SOFT.join(pieces)


def one_newline(text: str) -> str:
    """Return `text` with LF line ends."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def quote_constant(text: str) -> tuple[str, int]:
    """Return the code of `text`, which begins a line, and the column where it ends."""
    *whole, last = one_newline(text).split("\n")
    lines = [*(wrap(quote_line(line)) for line in whole), wrap(quote_line(last, is_ended=False))]
    column = len(lines[-1]) - (lines[-1].rfind("\n") + 1)
    code = "\r\n".join(lines)
    return (code + SOFT, 0) if column > _LAST_COLUMN else (code, column)


def closed(code: str, column: int) -> str:
    """Return `code` with the soft break that it needs where it ends inside a line."""
    return code + SOFT if column else code


def quote_value(text: str, column: int) -> str:
    """Return the code of `text` from `column` on, up to the start of a line."""
    lines = [quote_line(line) for line in one_newline(text).split("\n")]
    if lines[0].startswith(" "):  # there may be a blank before it
        lines[0] = f"=20{lines[0][1:]}"
    before = ""
    if column and not lines[0]:  # or a blank that must not end a line
        before, column = SOFT, 0
    lines[0] = wrap(lines[0], column)
    lines[1:] = [wrap(line) for line in lines[1:]]
    code = before + "\r\n".join(lines)
    return code + SOFT if lines[-1] else code


class Form:
    """How a template's text is written: as it is, or escaped for HTML.

    A step looks into `memo` for a value's written form before it calls `place`; blank values are
    never there. `finished` takes text that is escaped already.
    """

    limit_factor = 1
    tail = ""  # of a short value that needs no code

    def __init__(self, *, html: bool) -> None:
        self.html = html
        self.memo: dict[str, str] = {}

    def constant(self, text: str) -> tuple[str, int]:
        """Return the written form of a constant, and the column where it ends."""
        return text, 0

    def close(self, written: str, column: int) -> str:
        """Return a written constant that no value follows."""
        return written

    def place(self, text: str, column: int) -> str:
        """Return the written form of a value."""
        return str(escape(text)) if self.html else text

    def place_clean(self, text: str, column: int) -> str:
        """Return the written form of text that `is_clean`."""
        return text

    def finished(self, text: str, column: int) -> str:
        """Return the written form of text that needs no escaping."""
        return text


class Quoted(Form):
    """Quoted-printable; in HTML, values are escaped first.

    The memo holds what fits on a line behind every constant, with its soft break.
    """

    limit_factor = 2  # the limit counts code here
    tail = SOFT

    def constant(self, text: str) -> tuple[str, int]:
        return quote_constant(text)

    def close(self, written: str, column: int) -> str:
        return closed(written, column)

    def place(self, text: str, column: int) -> str:
        if _CLEAN_HTML(text) if self.html else _CLEAN(text):
            if len(text) > _FITS:
                return self.place_clean(text, column)
            code = text + SOFT
            if len(self.memo) < _MEMO:
                self.memo[text] = code
            else:
                self.memo.clear()
            return code
        escaped = str(escape(text)) if self.html else text
        if len(text) <= WIDTH and text.strip() == text != "" and text.isprintable():
            self._keep(text, quote_line(escaped))
        return quote_value(escaped, column)

    def place_clean(self, text: str, column: int) -> str:
        room = WIDTH - column
        if 0 < len(text) - room <= WIDTH:  # a tracked link
            return f"{text[:room]}=\r\n{text[room:]}=\r\n"
        return wrap(text, column) + SOFT

    def _keep(self, text: str, code: str) -> None:
        if len(code) <= _FITS:
            if len(self.memo) >= _MEMO:
                self.memo.clear()
            self.memo[text] = code + SOFT

    def finished(self, text: str, column: int) -> str:
        return wrap(text, column) + SOFT if _CLEAN(text) else quote_value(text, column)
