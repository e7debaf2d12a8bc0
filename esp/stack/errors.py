"""The one error of this package: something about the machine that its user can mend."""

from __future__ import annotations


class StackError(Exception):
    """The stack cannot start or go on; the message is one sentence that says what to do."""
