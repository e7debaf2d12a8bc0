"""Names of the jobs that this room wakes."""

from __future__ import annotations

from typing import Final

DELIVER_TRANSACTIONAL: Final = "dispatch.deliver_transactional"
DELIVER_BROADCAST: Final = "dispatch.deliver_broadcast"
CLEAR_CANCELLED: Final = "messages.clear_cancelled"
PURGE_IDEMPOTENCY: Final = "messages.purge_idempotency"
FORGET_OLD: Final = "messages.forget_old"
WATCH_QUEUE: Final = "messages.watch_queue"
SEND_CONFIRMATION: Final = "messages.send_confirmation"

DELIVER_BY_STREAM: Final[dict[str, str]] = {
    "transactional": DELIVER_TRANSACTIONAL,
    "broadcast": DELIVER_BROADCAST,
}
