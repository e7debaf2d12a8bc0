"""Names of the feedback room's jobs."""

from __future__ import annotations

PROCESS = "feedback.process"
SWEEP = "feedback.sweep"
PURGE = "feedback.purge"
