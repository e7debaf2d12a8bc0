"""When the queue is so long that more would harm everyone: who is refused, and with what words.

Two limits: what one tenant's API messages of a stream may have waiting (`QUEUE_LIMIT_PER_TENANT`
times its weight), and what may wait in all (`QUEUE_LIMIT`). Transactional mail is spared longer.
Counts are seconds old and never made for each request.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from django.conf import settings
from django.db import connection

from sending.messages.errors import QueueFull
from sending.messages.models import Batch, Stream
from tenants.directory.models import Tenant

# Receipts and passwords are few: they get through where campaigns no longer do.
_SPARED: Final[dict[str, float]] = {Stream.TRANSACTIONAL: 1.5, Stream.BROADCAST: 1.0}
_KEEP_SECONDS: Final = 5.0
_REST: Final = 20  # a count that took a second is made again after 20
_RETRY_TENANT_SECONDS: Final = 30.0
_RETRY_ALL_SECONDS: Final = 60.0
_KEEP_KEYS: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Count:
    value: int
    until: float


_counts: dict[object, _Count] = {}


def _kept(key: object, count: Callable[[], int]) -> int:
    """Return `count()`, asked at most every 5 seconds, and the less often the longer it takes."""
    now = time.monotonic()
    found = _counts.get(key)
    if found is None or now >= found.until:
        value = count()
        took = time.monotonic() - now
        if len(_counts) >= _KEEP_KEYS:
            _counts.clear()
        found = _counts[key] = _Count(value, now + max(_KEEP_SECONDS, took * _REST))
    return found.value


def forget_counts() -> None:
    """Let the next question count anew."""
    _counts.clear()


def check_room(tenant: Tenant, stream: str, *, messages: int) -> None:
    """Raise QueueFull when `messages` more of `tenant` are too many now; for API requests.

    The product's own mail is always taken: nobody could sign in to mend the rest.
    """
    if tenant.slug == settings.SYSTEM_TENANT_SLUG:
        return
    if waiting_in_all() >= _limit(settings.QUEUE_LIMIT, stream):
        raise QueueFull(
            "The sending queue is full: more messages wait than the installation takes. Nothing "
            "of this request was accepted; send it again later.",
            retry_after=_RETRY_ALL_SECONDS,
        )
    limit = _limit(settings.QUEUE_LIMIT_PER_TENANT * tenant.weight, stream)
    waiting = waiting_of(tenant.pk, stream, at_most=limit)
    if waiting >= limit:
        raise QueueFull(
            f"{waiting:,} {stream} messages of this workspace wait to be sent already; the limit "
            f"is {limit:,}. Nothing of this request was accepted; send it again when some of them "
            "have left.",
            retry_after=_RETRY_TENANT_SECONDS,
            code="queue-full-workspace",
        )
    _add(tenant.pk, stream, messages)


def _limit(limit: int, stream: str) -> int:
    return int(limit * _SPARED[stream])


def _add(tenant_id: uuid.UUID, stream: str, messages: int) -> None:
    """Count what this process lets in between two looks."""
    for key in ((tenant_id, stream), None):
        found = _counts.get(key)
        if found is not None:
            _counts[key] = _Count(found.value + messages, found.until)


def why_full(stream: str) -> str:
    """Return why no campaign's messages are made now, in words; "" when they are."""
    waiting, limit = waiting_in_all(), _limit(settings.QUEUE_LIMIT, stream)
    if waiting < limit:
        return ""
    return (
        f"The sending queue is full: about {waiting:,} messages of all workspaces wait, the limit "
        f"is {limit:,}. The rest of the messages are made when some of those have left."
    )


def waiting_of(tenant_id: uuid.UUID, stream: str, *, at_most: int) -> int:
    """Return how many API messages of a tenant wait; counting ends at `at_most`."""
    return _kept((tenant_id, stream), lambda: _count_tenant(tenant_id, stream, at_most))


def _count_tenant(tenant_id: uuid.UUID, stream: str, at_most: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT count(*) FROM (
                SELECT 1 FROM sending_queueentry WHERE batch_id = (
                    SELECT id FROM sending_batch
                    WHERE tenant_id = %s AND kind = %s AND stream = %s)
                LIMIT %s) AS waiting
            """,
            [tenant_id, Batch.Kind.API, stream, at_most],
        )
        return int(cursor.fetchone()[0])


def waiting_in_all() -> int:
    """Return about how many messages wait, of all tenants."""
    return _kept(None, _estimate_all)


def _estimate_all() -> int:
    """Return PostgreSQL's own count of the queue's rows.

    Its statistics follow inserts and deletes within about a second. After a crash of the database
    they begin anew; until a first insert the planner's figure stands in for them.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT CASE WHEN pg_stat_get_tuples_inserted(oid) > 0
                        THEN pg_stat_get_live_tuples(oid)
                        ELSE greatest(reltuples, 0)::bigint END
            FROM pg_class WHERE oid = 'sending_queueentry'::regclass
            """
        )
        return int(cursor.fetchone()[0])
