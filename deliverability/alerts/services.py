"""Raising and closing operators' alerts: one open row a code and subject, counted while it lasts.

An alert must not need what has failed. Where PostgreSQL does not take it, it is logged and kept in
Valkey until `record_remembered` finds the database again; where Valkey is away too, the log has it.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
from typing import Any, Literal

import redis
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.utils import timezone

from deliverability.alerts.models import Alert
from esp.kit.valkey import client
from esp.lib.ids import new_id

log = logging.getLogger(__name__)

Severity = Literal["warning", "critical"]

_REMEMBERED = "mw:alerts:remembered"
_REMEMBERED_SECONDS = 14 * 24 * 3600

_RAISE = """
INSERT INTO deliverability_alert
    (id, code, subject, severity, title, detail, opened_at, seen_at, count, closed_at)
VALUES (%(id)s, %(code)s, %(subject)s, %(severity)s, %(title)s, %(detail)s, %(opened_at)s,
        %(now)s, %(count)s, NULL)
ON CONFLICT (code, subject) WHERE closed_at IS NULL DO UPDATE
SET severity = excluded.severity, title = excluded.title, detail = excluded.detail,
    seen_at = greatest(deliverability_alert.seen_at, excluded.seen_at),
    count = deliverability_alert.count + excluded.count
RETURNING xmax = 0
"""


def raise_alert(
    *,
    code: str,
    subject: str = "",
    severity: Severity,
    title: str,
    detail: str = "",
    now: dt.datetime | None = None,
) -> bool:
    """Open the alert `code` about `subject`, or count it once more where it is open.

    `title` is one sentence of what is wrong, `detail` says what it means and what to do. Returns
    whether the alert is new. Never raises for a database that is away: what could not be written
    is remembered (then False).
    """
    values: dict[str, Any] = {
        "code": code[:40],
        "subject": subject[:120],
        "severity": severity,
        "title": title[:200],
        "detail": detail[:5000],
        "opened_at": now or timezone.now(),
        "now": now or timezone.now(),
        "count": 1,
    }
    try:
        is_new = _write(values)
    except (DatabaseError, InterfaceError) as error:
        log.error("alert %s %s: %s (not recorded: %s)", code, subject, title, _line(error))
        _remember(values)
        return False
    if is_new:
        log.error("alert %s %s: %s", code, subject, title)
    return is_new


def _write(values: dict[str, Any]) -> bool:
    # A savepoint: where the caller has a transaction, a failure here must not be its end.
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_RAISE, {"id": new_id(), **values})
        return bool(cursor.fetchone()[0])


def close_alert(*, code: str, subject: str = "", now: dt.datetime | None = None) -> bool:
    """Close the open alert `code` about `subject`; return whether there was one.

    Never raises for a database that is away: who closes does so again at its next look.
    """
    try:
        with transaction.atomic():
            closed = Alert.objects.filter(code=code, subject=subject, closed_at=None).update(
                closed_at=now or timezone.now()
            )
    except (DatabaseError, InterfaceError) as error:
        log.warning("alert %s %s stays open: %s", code, subject, _line(error))
        return False
    if closed:
        log.info("alert %s %s is over", code, subject)
    return bool(closed)


def settle_alert(
    *,
    is_on: bool,
    code: str,
    subject: str = "",
    severity: Severity,
    title: str,
    detail: str = "",
) -> None:
    """Raise the alert while `is_on`, close it otherwise: for checks that look again and again."""
    if is_on:
        raise_alert(code=code, subject=subject, severity=severity, title=title, detail=detail)
    else:
        close_alert(code=code, subject=subject)


def close_unseen(*, code: str, seconds: float, now: dt.datetime | None = None) -> int:
    """Close the open alerts `code` that nobody has raised for `seconds`; return how many.

    For alerts about events (a reply, a failed look-up) whose end nobody observes.
    """
    now = now or timezone.now()
    return Alert.objects.filter(
        code=code, closed_at=None, seen_at__lt=now - dt.timedelta(seconds=seconds)
    ).update(closed_at=now)


def _remember(values: dict[str, Any]) -> None:
    """Keep an alert in Valkey, merged with what is kept of the same code and subject."""
    field = json.dumps([values["code"], values["subject"]])
    try:
        valkey = client()
        kept = valkey.hget(_REMEMBERED, field)
        before = json.loads(kept) if isinstance(kept, bytes) else {}
        stored = {
            **values,
            "now": values["now"].isoformat(),
            "opened_at": before.get("opened_at", values["opened_at"].isoformat()),
            "count": before.get("count", 0) + 1,
        }
        valkey.hset(_REMEMBERED, field, json.dumps(stored))
        valkey.expire(_REMEMBERED, _REMEMBERED_SECONDS)
    except (redis.RedisError, ValueError) as error:
        log.warning("alert %s is in this log only: %s", values["code"], error)


def remembered() -> list[dict[str, Any]]:
    """Return the alerts that wait for the database; empty where Valkey does not answer."""
    try:
        kept = client().hgetall(_REMEMBERED)
    except redis.RedisError:
        return []
    assert isinstance(kept, dict)
    return [json.loads(value) for value in kept.values()]


def record_remembered() -> int:
    """Write the alerts of the time without a database; return how many. Raises DatabaseError."""
    recorded = 0
    for values in remembered():
        for name in ("opened_at", "now"):
            values[name] = dt.datetime.fromisoformat(values[name])
        _write(values)
        client().hdel(_REMEMBERED, json.dumps([values["code"], values["subject"]]))
        recorded += 1
    return recorded


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
