"""Where in the log the messages of a campaign's part stand: a stretch of ids that is theirs alone.

No index knows campaigns' messages but the primary key. A part's ids lie in one span, no two spans
overlap, and within its span a message's id follows from its address: the span's first microsecond
plus the address's hash, one slot of a microsecond each. So the messages of a tenant or a batch are
the spans' ranges of the primary key, and one to an address is a single slot of each. What comes in
one by one (API) has indexes of its own (`Message.Meta`).
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Final

from django.db import connection
from django.utils import timezone

from sending.messages.models import Batch, MessageSpan

# One lock for all spans (`pg_advisory_xact_lock`): it is held until the caller's transaction ends.
_LOCK: Final = 0x6D77_7370
# An end further ahead was given under a wrong clock: later spans must not follow it.
_FURTHEST_US: Final = 3_600_000_000
_MOST_SLOTS: Final = 1 << 20
_TAIL_FIRST, _TAIL_LAST = 1 << 63, (1 << 64) - 1

# The slot of an address, and an id in a slot (UUIDv7, RFC 9562 section 5.7): milliseconds, the rest
# of the microsecond in the twelve bits after the version (section 6.2, method 3), then sixteen hex
# digits. Its first digit is 0 until the year 2527. `hashtext` is as lasting as PostgreSQL's hash
# indexes, which are kept on disk from one version to the next.
SLOT_SQL: Final = "(hashtext({address}) & ({slots} - 1))"
ID_SQL: Final = "('0' || to_hex(({us} / 1000) << 16 | 28672 | ({us} %% 1000) * 4) || {tail})::uuid"
# The random bits are the server's own: an id is no secret, and `gen_random_uuid` asks the kernel
# for every row. The topmost bit is the variant.
RANDOM_TAIL_SQL: Final = (
    "to_hex((random() * 4611686018427387904)::bigint | (-9223372036854775808)::bigint)"
)


def open_span(batch: Batch, *, size: int, now: dt.datetime | None = None) -> MessageSpan:
    """Give a part of `batch` with about `size` messages a span behind all others; in a transaction.

    Spans begin at `now`, or right behind the last one where that is later.
    """
    slots = min(1 << max(0, size - 1).bit_length(), _MOST_SLOTS)
    base = int((now or timezone.now()).timestamp() * 1_000_000)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        cursor.execute(
            "SELECT last_id FROM sending_messagespan WHERE last_id < %s "
            "ORDER BY last_id DESC LIMIT 1",
            [id_at(base + _FURTHEST_US, _TAIL_FIRST)],
        )
        row = cursor.fetchone()
    if row is not None:
        base = max(base, _microsecond_of(row[0]) + 1)
    return MessageSpan.unscoped.create(
        tenant_id=batch.tenant_id,
        batch_id=batch.pk,
        base_us=base,
        slots=slots,
        first_id=id_at(base, _TAIL_FIRST),
        last_id=id_at(base + slots - 1, _TAIL_LAST),
    )


def id_at(microsecond: int, tail: int) -> uuid.UUID:
    """Return the id at `microsecond` (since 1970) whose last 64 bits are `tail`."""
    high = (microsecond // 1000) << 16 | 0x7000 | (microsecond % 1000) * 4
    return uuid.UUID(int=high << 64 | tail)


def _microsecond_of(key: uuid.UUID) -> int:
    return (key.int >> 80) * 1000 + (key.int >> 64 & 0xFFF) // 4
