"""How many messages an address may send to a site on a day: what warm-up plans fill.

`cap_for` is asked for every grant, often in an event loop, so it answers from a table that
`snapshot` loads in bulk, in a thread that may ask the database.
"""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from django.utils import timezone

from deliverability.ips.models import IpCap

_KEEP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class CapTable:
    """The caps of today and tomorrow (UTC) by (address's id, site, day); site "" is the rest."""

    messages: Mapping[tuple[str, str, dt.date], int]

    def cap_for(self, source_id: uuid.UUID | str, site: str, day: dt.date) -> int | None:
        """Return the cap of an address at a site on `day` (UTC), or None where there is none."""
        key = str(source_id)
        found = self.messages.get((key, site, day))
        return found if found is not None else self.messages.get((key, "", day))


_EMPTY = CapTable(MappingProxyType({}))
_kept: tuple[float, CapTable] = (float("-inf"), _EMPTY)


def snapshot() -> CapTable:
    """Return the table of caps, loaded anew when it is older than 30 seconds (one query)."""
    global _kept  # noqa: PLW0603 (the process's one table)
    if time.monotonic() - _kept[0] >= _KEEP_SECONDS:
        today = timezone.now().astimezone(dt.UTC).date()
        rows = IpCap.objects.filter(on__range=(today, today + dt.timedelta(days=1)))
        found = {
            (str(ip_id), site, on): messages
            for ip_id, site, on, messages in rows.values_list("ip_id", "site", "on", "messages")
        }
        _kept = (time.monotonic(), CapTable(MappingProxyType(found)))
    return _kept[1]


def cap_for(source_id: uuid.UUID | str, site: str, day: dt.date) -> int | None:
    """Return today's or tomorrow's cap as last loaded by `snapshot`; never asks the database."""
    return _kept[1].cap_for(source_id, site, day)


def forget_caps() -> None:
    """Let the next `snapshot` load: after a change in this process."""
    global _kept  # noqa: PLW0603
    _kept = (float("-inf"), _kept[1])
