"""What can be wrong with content that a person wrote."""

from __future__ import annotations

from esp.lib.errors import DomainError


class ContentError(DomainError):
    """The content cannot be compiled or rendered; `line` is 1-based where it is known."""

    code = "content"

    def __init__(
        self,
        message: str,
        *,
        line: int | None = None,
        code: str | None = None,
        field: str | None = None,
    ) -> None:
        if line is not None:
            message = f"Line {line}: {message}"
        super().__init__(message, code=code, field=field)
        self.line = line
