"""Names of the dispatch room's jobs."""

from __future__ import annotations

DELIVER_TRANSACTIONAL = "dispatch.deliver_transactional"
DELIVER_BROADCAST = "dispatch.deliver_broadcast"
WAKE = "dispatch.wake"
EXPIRE = "dispatch.expire"
CHECK_QUEUE = "dispatch.check_queue"
PARTITIONS = "dispatch.make_partitions"

DELIVER = {"transactional": DELIVER_TRANSACTIONAL, "broadcast": DELIVER_BROADCAST}
