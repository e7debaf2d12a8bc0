"""Names of the feedback room's jobs."""

from __future__ import annotations

PROCESS = "feedback.process"
REPORTS = "feedback.reports"
SWEEP = "feedback.sweep"
PURGE = "feedback.purge"
