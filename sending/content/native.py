"""Panics of the Rust libraries, which reach Python as a BaseException that nothing would catch.

Seen 2026-11: mrml 0.2.4 panics on `"ü">` in a component ("not a char boundary").
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sending.content.errors import ContentError


@contextmanager
def panics_refused(message: str) -> Iterator[None]:
    """Turn a panic inside the block into a ContentError with `message`."""
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ContentError(message, code="unreadable") from error
