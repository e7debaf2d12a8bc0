"""How long mail must be kept at least."""

from __future__ import annotations

from typing import Final

# A reader must be able to unsubscribe for 30 days (CAN-SPAM, 16 CFR 316.5), and the link needs its
# message.
SHORTEST_RETENTION_DAYS: Final = 30
