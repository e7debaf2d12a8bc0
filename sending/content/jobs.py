"""Names of the content room's jobs."""

from __future__ import annotations

COMPILE = "content.compile"
