"""Mend what the queue check finds, where that is safe whatever was the cause.

Every statement asks its condition again: what changed since the look is left alone.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection, Sequence
from typing import Any

from django.conf import settings
from django.db import connection, transaction

from sending.dispatch.invariants import Report
from sending.dispatch.results import record_ends
from sending.events.models import EventKind

_MAKE_ENTRIES = """
INSERT INTO sending_queueentry
    (message_id, tenant_id, batch_id, domain, due_at, expires_at, attempts, worker, reason)
SELECT id, tenant_id, batch_id, split_part(recipient, '@', -1), %(now)s, expires_at, attempts, '',
       'Put back into the queue by the queue check.'
FROM sending_message
WHERE id = ANY(%(ids)s) AND status IN ('queued', 'deferred')
FOR UPDATE
ON CONFLICT (message_id) DO NOTHING
"""

_DROP_ORPHANS = """
DELETE FROM sending_queueentry entry
WHERE entry.message_id = ANY(%(ids)s) AND (entry.worker = '' OR entry.due_at <= %(now)s)
  AND NOT EXISTS (SELECT 1 FROM sending_message message
                  WHERE message.id = entry.message_id AND message.status IN ('queued', 'deferred'))
"""

# The worker may be alive and only its clock wrong: it gets one ordinary lease more.
_SHORTEN_LEASES = """
UPDATE sending_queueentry SET due_at = %(lease_end)s
WHERE message_id = ANY(%(ids)s) AND worker <> '' AND due_at > %(longest)s
"""

_BRING_FORWARD = """
UPDATE sending_queueentry SET due_at = %(now)s
WHERE message_id = ANY(%(ids)s) AND worker = ''
  AND (due_at > expires_at
       OR (attempts = 0 AND hold = '' AND reason = '' AND due_at > %(soon)s))
"""

_FILE_RIGHTLY = """
UPDATE sending_queueentry entry SET batch_id = message.batch_id, tenant_id = message.tenant_id
FROM sending_message message
WHERE entry.message_id = ANY(%(ids)s) AND message.id = entry.message_id
  AND (entry.batch_id, entry.tenant_id) <> (message.batch_id, message.tenant_id)
"""

_CHANGES = {
    "no-entry": _MAKE_ENTRIES,
    "orphan-entry": _DROP_ORPHANS,
    "long-lease": _SHORTEN_LEASES,
    "far-due": _BRING_FORWARD,
    "ahead": _BRING_FORWARD,
    "misfiled": _FILE_RIGHTLY,
}

# Whatever the batch is: its sweep ends what is over in those that run, this the rest.
_END = """
WITH over AS MATERIALIZED (
    SELECT message.id FROM sending_message message
    LEFT JOIN sending_queueentry entry ON entry.message_id = message.id
    WHERE message.id = ANY(%(ids)s)
      AND ((%(status)s = 'expired'
            AND coalesce(entry.expires_at, message.expires_at) < %(now)s)
           OR (%(status)s = 'dropped' AND NOT EXISTS (
                   SELECT 1 FROM sending_messagecontent content
                   WHERE content.id = message.content_id)))
), gone AS (
    DELETE FROM sending_queueentry WHERE message_id = ANY(ARRAY(SELECT id FROM over))
)
UPDATE sending_message message
SET status = %(status)s, final_at = %(now)s, bounce_class = %(class)s,
    last_reply = CASE WHEN last_reply = '' THEN %(text)s ELSE last_reply END
WHERE message.id = ANY(ARRAY(SELECT id FROM over)) AND message.status IN ('queued', 'deferred')
RETURNING message.id, message.tenant_id, message.batch_id, message.contact_id, message.recipient,
          message.site
"""

# Kind of finding: how its messages end, under which class, in which words.
_ENDS = {
    "expired": (EventKind.EXPIRED, "soft/expired", "The message could not be sent in time."),
    "no-content": (EventKind.DROPPED, "block/content", "The message's content no longer exists."),
}


def mend(report: Report, *, now: dt.datetime, kinds: Collection[str] | None = None) -> None:
    """Mend what is safe to mend, each kind in one transaction; `report.repaired` says how many.

    With `kinds` only those.
    """
    lease = dt.timedelta(seconds=settings.DELIVERY_LEASE_SECONDS)
    for finding in report.findings:
        if kinds is not None and finding.kind not in kinds:
            continue
        if finding.kind in _ENDS:
            report.repaired[finding.kind] = _end(finding.kind, finding.ids, now)
        elif finding.kind in _CHANGES:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(
                    _CHANGES[finding.kind],
                    {
                        "ids": list(finding.ids),
                        "now": now,
                        "soon": now + dt.timedelta(seconds=60),
                        "lease_end": now + lease,
                        "longest": now + 2 * lease,
                    },
                )
                report.repaired[finding.kind] = cursor.rowcount


def _end(kind: str, ids: Sequence[uuid.UUID], now: dt.datetime) -> int:
    """End messages with words and events; return how many."""
    event, classification, text = _ENDS[kind]
    params: dict[str, Any] = {
        "ids": list(ids),
        "now": now,
        "status": event.value,
        "class": classification,
        "text": text,
    }
    is_drop = event == EventKind.DROPPED
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_END, params)
        rows = cursor.fetchall()
        record_ends(
            rows, event, {"reason": text} if is_drop else {"class": classification}, now=now
        )
    return len(rows)
