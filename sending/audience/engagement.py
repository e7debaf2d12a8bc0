"""When a contact was last seen to read: who goes first while an address warms up."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Final

from django.db.models import Q

from sending.audience.models import Contact

# One write an hour and reader is enough to tell who reads from who does not.
_GRAIN: Final = dt.timedelta(hours=1)

# How much later (an interval) a contact's message is due, by minutes since the last sign of
# reading: a microsecond each, up to a year; who never read comes last. Under a second in all.
ENGAGED_FIRST_SQL: Final = """
    interval '1 microsecond' * coalesce((
        SELECT least(525600, greatest(0, extract(epoch FROM now() - c.engaged_at)::bigint / 60))
        FROM sending_contact c WHERE c.id = contact_id AND c.engaged_at IS NOT NULL), 600000)
"""


def note_engagement(contact_id: uuid.UUID, at: dt.datetime) -> None:
    """Note that a person, not a machine, has opened or clicked at `at`."""
    Contact.objects.filter(
        Q(engaged_at=None) | Q(engaged_at__lt=at - _GRAIN), pk=contact_id
    ).update(engaged_at=at)
