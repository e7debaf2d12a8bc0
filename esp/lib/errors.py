"""The errors that services raise: a stable code, a sentence for people, the field at fault.

Doors translate them (pages to a message, the API to RFC 9457 problem details); nothing here knows
HTTP.
"""

from __future__ import annotations


class DomainError(Exception):
    """Something a user asked for cannot be done, and the message says why."""

    code = "error"

    def __init__(self, message: str, *, code: str | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.field = field


class InvalidInput(DomainError):
    """A value is malformed or not allowed."""

    code = "invalid"


class NotFound(DomainError):
    """The object does not exist for this tenant (another tenant's object is the same answer)."""

    code = "not-found"


class PermissionMissing(DomainError):
    """The actor may see the thing but lacks the permission to do this with it."""

    code = "permission-missing"


class Conflict(DomainError):
    """The object is no longer in the state that this change needs."""

    code = "conflict"


class LimitReached(DomainError):
    """A rate limit or quota is used up; `retry_after` is in seconds."""

    code = "limit-reached"

    def __init__(self, message: str, *, retry_after: float, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after
