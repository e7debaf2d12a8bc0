"""One effect for a request that is sent more than once.

The key's row is written first, in the request's own transaction: a second request with the key
waits at the unique index until the first has committed, and then answers with what it finds. A
request that fails leaves no key: it had no effect, and may be mended and sent again.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from dataclasses import dataclass
from typing import Any, Final

import orjson
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from esp.lib.errors import InvalidInput
from esp.lib.ids import new_id
from sending.messages.errors import IdempotencyInProgress, IdempotencyMismatch
from sending.messages.models import IdempotencyKey
from tenants.scoping.context import current_tenant_id

KEEP: Final = dt.timedelta(hours=24)
WAIT_SECONDS: Final = 10  # for a request with the same key; then 409
MAX_KEY: Final = 255

_KEY = re.compile(r"[\x21-\x7e]{1,255}\Z")
_LOCK_NOT_AVAILABLE = "55P03"

# One round trip: the patience is for this one wait, not for the rest of the transaction.
_CLAIM = """
SET LOCAL lock_timeout = %(patience)s;
INSERT INTO sending_idempotencykey
    (id, tenant_id, key, request_hash, status_code, body, created_at)
VALUES (%(id)s, %(tenant)s, %(key)s, %(hash)s, NULL, NULL, %(now)s)
ON CONFLICT (tenant_id, key) DO UPDATE
    SET request_hash = EXCLUDED.request_hash, status_code = NULL, body = NULL,
        created_at = EXCLUDED.created_at
    WHERE sending_idempotencykey.created_at <= %(oldest)s
RETURNING id;
SET LOCAL lock_timeout TO DEFAULT
"""
_STORE = """
UPDATE sending_idempotencykey SET status_code = %s, body = %s::jsonb
WHERE tenant_id = %s AND key = %s
"""


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What the first request with the key was answered."""

    status_code: int
    body: dict[str, Any]


def hash_of(path: str, data: object) -> str:
    """Return the hash by which two requests are the same: order and spacing do not count."""
    return hashlib.sha256(
        path.encode() + b"\n" + orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
    ).hexdigest()


def claim_key(key: str, request_hash: str) -> StoredAnswer | None:
    """Take `key` for this request, or return the answer that it got before.

    Must run in the transaction that has the request's effect, in the tenant's scope; `store_answer`
    ends it. Raises InvalidInput, IdempotencyMismatch, IdempotencyInProgress.
    """
    if not _KEY.match(key):
        raise InvalidInput(
            f"The idempotency key has 1 to {MAX_KEY} visible ASCII characters.",
            code="idempotency-key-invalid",
            field="Idempotency-Key",
        )
    if _take(key, request_hash):
        return None
    row = IdempotencyKey.objects.get(key=key)
    if row.request_hash != request_hash:
        raise IdempotencyMismatch(
            "This idempotency key was used for another request. Take a new key for a new request.",
            field="Idempotency-Key",
        )
    assert row.status_code is not None  # key and answer are committed together
    return StoredAnswer(row.status_code, row.body or {})


def _take(key: str, request_hash: str) -> bool:
    now = timezone.now()
    try:
        # Whoever waited too long has failed as a whole: there is no savepoint to go back to.
        with transaction.atomic(savepoint=False), connection.cursor() as cursor:
            cursor.execute(
                _CLAIM,
                {
                    "patience": f"{WAIT_SECONDS}s",
                    "id": new_id(),
                    "tenant": current_tenant_id(),
                    "key": key,
                    "hash": request_hash,
                    "now": now,
                    "oldest": now - KEEP,
                },
            )
            cursor.nextset()  # past the answer to SET
            taken = cursor.fetchone() is not None
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
            raise
        raise IdempotencyInProgress(
            "A request with this idempotency key is still being answered. Ask again in a moment.",
            field="Idempotency-Key",
        ) from error
    return taken


def store_answer(key: str, status_code: int, body: dict[str, Any]) -> None:
    """Keep the answer of the request that claimed `key`."""
    with connection.cursor() as cursor:
        cursor.execute(_STORE, [status_code, orjson.dumps(body).decode(), current_tenant_id(), key])


def purge_old_keys() -> int:
    """Remove keys whose 24 hours are over, across tenants; return how many."""
    oldest = timezone.now() - KEEP
    removed, _ = IdempotencyKey.unscoped.filter(created_at__lt=oldest).delete()
    return removed
