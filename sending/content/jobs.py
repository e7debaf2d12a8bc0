"""Names of the content room's jobs."""

from __future__ import annotations

COMPILE = "content.compile"
FORGET_VERSIONS = "content.forget_versions"
