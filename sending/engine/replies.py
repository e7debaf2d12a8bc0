"""SMTP replies as values: code, enhanced code, cleaned text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

# RFC 3463 section 2; some servers write "#5.7.1", "(#5.1.1)" or put words in front.
_ENHANCED = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?![\d.]*\d)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffd]+")
_LEADING_CODE = re.compile(r"^\s*([2-5]\d\d)(?:[ -]|$)")

# A reply line is at most 512 octets (RFC 5321 section 4.5.3.1.5); replies of several lines with
# links to help pages reach 600 and more. What is longer helps nobody and fills the log.
MAX_TEXT = 1000


@dataclass(slots=True)  # made for every message; see `ports`
class Reply:
    """A server's answer, or with `failure` the reason why there is none; a value.

    `code` is within 200..599 when there was an answer. `text` has no code and no enhanced code cut
    off: it is what the server said, on one line, without control characters; `lines` has the lines
    as they came (for EHLO).
    """

    code: int | None
    text: str
    enhanced: str | None = None
    failure: Literal["", "timeout", "disconnected", "protocol", "local"] = ""
    lines: tuple[str, ...] = ()

    @property
    def is_positive(self) -> bool:
        return self.code is not None and 200 <= self.code < 300

    @property
    def is_intermediate(self) -> bool:
        return self.code is not None and 300 <= self.code < 400


def clean(text: str) -> str:
    """Return `text` on one line, safe to store and show, at most MAX_TEXT characters."""
    if len(text) <= MAX_TEXT and text.isascii() and text.isprintable() and "  " not in text:
        return text.strip()  # what nearly every reply is
    return " ".join(_CONTROL.sub(" ", text[: MAX_TEXT * 4]).split())[:MAX_TEXT]


def find_enhanced(text: str, code: int | None = None) -> str | None:
    """Return the enhanced status code (RFC 3463) that stands near the start of `text`, or None.

    One whose class contradicts `code` is not believed when the code says success or not; between
    4 and 5 the servers' mistakes are common ("550 4.2.2"), and the words decide later.
    """
    match = _ENHANCED.search(text[:120])
    if match is None:
        return None
    if code is not None and (code < 400) != (match.group(1) == "2"):
        return None
    return match.group(0)


def make_reply(code: int, message: str) -> Reply:
    """Return the Reply for what the connection delivered; a code out of range is a failure."""
    text = clean(message)
    if not 200 <= code < 600:
        return Reply(None, f"The server's answer was no SMTP reply: {code} {text}"[:MAX_TEXT],
                     failure="protocol")  # fmt: skip
    return Reply(code, text, find_enhanced(text, code), lines=tuple(message.split("\n")))


def parse_reply(line: str) -> Reply:
    """Read a reply from text as logs and bounce mails quote it ("550-5.1.1 No such user").

    Where there is no code, `code` is None and `text` is everything.
    """
    lines = [part for part in line.splitlines() if part.strip()] or [""]
    match = _LEADING_CODE.match(lines[0])
    if match is None:
        text = clean(line)
        return Reply(None, text, find_enhanced(text))
    code = int(match.group(1))
    prefix = re.compile(rf"^\s*{code}[ -]")
    text = clean(" ".join(prefix.sub("", part) for part in lines))
    return Reply(code, text, find_enhanced(text, code))
