"""Names of the campaigns room's jobs."""

from __future__ import annotations

PREPARE = "campaigns.prepare"
SWEEP = "campaigns.sweep"
