"""Forgets old mail: whole months of messages, events and attempts, then what only they used.

A batch stays: an API's has no end, and a campaign's is what its report counts by. A campaign's
content stays with the campaign.
"""

from __future__ import annotations

import datetime as dt
import logging
import uuid

from esp.kit.partitions import drop_partitions
from esp.lib.ids import lower_bound, made_at
from sending.messages.models import Message, MessageContent, MessageSpan

log = logging.getLogger(__name__)

_CHUNK = 1000
# Content is written before its messages, in one request.
_MARGIN = dt.timedelta(days=1)


def forget_old_messages(*, now: dt.datetime, keep_days: int) -> tuple[list[str], int]:
    """Drop months past `keep_days`, 0 for none; return (names, contents removed). For workers."""
    if not keep_days:
        return [], 0
    dropped, left = drop_partitions(now, keep_days=keep_days)
    for name in left:
        log.warning("%s is kept: a message of it waits, or it is in use; tried again later", name)
    removed = _forget_contents(now - dt.timedelta(days=keep_days))
    _forget_spans(now - dt.timedelta(days=keep_days))
    if dropped:
        log.info("dropped %s, and %d contents", ", ".join(dropped), removed)
    return dropped, removed


def _forget_spans(before: dt.datetime) -> None:
    """Remove spans that ended before every message that is left."""
    oldest = _oldest_message()
    if oldest is not None:
        before = min(before, made_at(oldest))
    MessageSpan.unscoped.filter(last_id__lt=lower_bound(before)).delete()


def _oldest_message() -> uuid.UUID | None:
    return Message.unscoped.order_by("id").values_list("id", flat=True).first()


def _forget_contents(before: dt.datetime) -> int:
    """Remove contents older than `before` and than every message that is left, chunk by chunk.

    But for campaigns', content is used in the one request that made it: what is older than the
    oldest message belongs to none.
    """
    oldest = _oldest_message()
    if oldest is not None:
        before = min(before, made_at(oldest))
    past = MessageContent.unscoped.filter(
        id__lt=lower_bound(before - _MARGIN), campaign__isnull=True
    )
    removed = 0
    while chunk := list(past.order_by("id").values_list("id", flat=True)[:_CHUNK]):
        count, _ = MessageContent.unscoped.filter(id__in=chunk).delete()
        removed += count
    return removed
