"""Writing what workers report of lanes, and what operators do with them."""

from __future__ import annotations

from sending.lanes.services.operators import (
    clear_limit,
    lift_suspension,
    note_queue_action,
    pause_lane,
    resume_lane,
    set_limit,
)
from sending.lanes.services.workers import add_counts, add_limit_counts, write_actions

__all__ = [
    "add_counts",
    "add_limit_counts",
    "clear_limit",
    "lift_suspension",
    "note_queue_action",
    "pause_lane",
    "resume_lane",
    "set_limit",
    "write_actions",
]
