"""Names of the room's background jobs."""

from __future__ import annotations

CHECK = "routes.check"
