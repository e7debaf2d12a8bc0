"""The room's background jobs by name."""

from __future__ import annotations

from typing import Final

CHECK_PTR: Final = "ips.check_ptr"
CHECK_NODES: Final = "ips.check_nodes"
