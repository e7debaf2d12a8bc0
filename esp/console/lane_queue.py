"""What operators do with the messages that wait in a lane; run by workers, who see all tenants.

A message whose lease runs is left alone: its worker is talking to a server.
"""

from __future__ import annotations

import datetime as dt

from django.db import connection, transaction

from sending.dispatch.results import record_ends
from sending.events.models import EventKind

# By an array: `IN` may be joined by a loop that chooses anew in each round, whatever the limit.
_REQUEUE = """
UPDATE sending_queueentry SET due_at = %(now)s, hold = '', reason = ''
WHERE message_id = ANY(ARRAY(
    SELECT message_id FROM sending_queueentry
    WHERE site = %(site)s AND source_id = %(source)s AND worker = '' AND due_at > %(now)s
    LIMIT %(size)s FOR UPDATE SKIP LOCKED))
"""

_END = """
WITH gone AS (
    DELETE FROM sending_queueentry WHERE message_id = ANY(ARRAY(
        SELECT message_id FROM sending_queueentry
        WHERE site = %(site)s AND source_id = %(source)s AND (worker = '' OR due_at <= %(now)s)
        LIMIT %(size)s FOR UPDATE SKIP LOCKED))
    RETURNING message_id
)
UPDATE sending_message message
SET status = 'bounced', final_at = %(now)s, bounce_class = 'block/policy', last_reply = %(text)s
FROM gone WHERE message.id = gone.message_id AND message.status IN ('queued', 'deferred')
RETURNING message.id, message.tenant_id, message.batch_id, message.contact_id, message.recipient,
          message.site
"""


_WAITING = """
SELECT count(*) FROM sending_queueentry
WHERE site = %(site)s AND source_id = %(source)s AND worker = '' AND due_at > %(now)s
"""


def waiting_in(*, source_id: str, site: str, now: dt.datetime) -> int:
    """Return how many messages of a lane are not due yet."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITING, {"now": now, "site": site, "source": source_id})
        return int(cursor.fetchone()[0])


def requeue_chunk(*, source_id: str, site: str, now: dt.datetime, size: int = 5000) -> int:
    """Make up to `size` waiting messages of a lane due at once; return how many."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_REQUEUE, {"now": now, "site": site, "source": source_id, "size": size})
        return int(cursor.rowcount)


def bounce_chunk(
    *, source_id: str, site: str, reason: str, now: dt.datetime, size: int = 2000
) -> int:
    """End up to `size` waiting messages of a lane as bounced, with a reason; return how many."""
    text = f"An operator ended it: {reason}"[:500]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            _END, {"now": now, "site": site, "source": source_id, "size": size, "text": text}
        )
        rows = cursor.fetchall()
        record_ends(rows, EventKind.BOUNCED, {"class": "block/policy", "reply": text}, now=now)
    return len(rows)
