"""What can stand in the way of a message, beside a malformed request."""

from __future__ import annotations

from esp.lib.errors import Conflict, DomainError, InvalidInput, LimitReached


class IdempotencyMismatch(Conflict):
    """The key was used in the last 24 hours for another request."""

    code = "idempotency-mismatch"


class IdempotencyInProgress(Conflict):
    """A request with the same key is still being answered."""

    code = "idempotency-in-progress"


class SenderNotVerified(InvalidInput):
    """The From address is not on a verified domain of the tenant."""

    code = "sender-not-verified"


class TenantNotActive(DomainError):
    """The tenant is suspended and may not send."""

    code = "tenant-suspended"


class SystemMailUnavailable(DomainError):
    """The product cannot send its own mail: its domain is not set up."""

    code = "system-mail-unavailable"


class QueueFull(LimitReached):
    """So much waits already that more would harm everyone."""

    code = "queue-full"
