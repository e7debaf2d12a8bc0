"""Names of the console's jobs."""

from __future__ import annotations

COUNT_QUEUE = "console.count_queue"
REQUEUE_LANE = "console.requeue_lane"
BOUNCE_LANE = "console.bounce_lane"
