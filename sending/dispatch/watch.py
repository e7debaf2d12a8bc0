"""The regular look at the queue: what breaks a rule becomes an operators' alert."""

from __future__ import annotations

import time

from celery import shared_task
from django.core.cache import cache
from django.utils import timezone
from redis import RedisError

from deliverability.alerts.checks import note_check
from deliverability.alerts.services import close_alert, close_unseen, raise_alert
from sending.dispatch import jobs
from sending.dispatch.invariants import REPAIRABLE, SENTENCES, Cursor, Report, check_queue

_ALERT = "queue-stuck"
_CURSOR = "dispatch:check-queue:cursor"
# Found by walks that take a window a run: unseen for so long, it was not there in a whole round.
_WALKED = frozenset({"no-entry", "orphan-entry", "expired", "far-due"})
_ROUND_SECONDS = 3600.0
_ADVICE = "`manage.py check_queue --all` lists them"


@shared_task(name=jobs.CHECK_QUEUE)
def check() -> None:
    """Look at the next window of the queue."""
    begun = time.monotonic()
    after = _kept_cursor()
    report = check_queue(now=timezone.now(), after=after)
    _keep_cursor(report.cursor)
    tell(report, is_whole=after == report.cursor == Cursor())
    seen = f"{report.entries_seen} entries and {report.messages_seen} messages looked at"
    said = f"{len(report.findings)} rules broken" if report.findings else "nothing wrong"
    note_check("queue", f"{said}; {seen} in {(time.monotonic() - begun) * 1000:.0f} ms")


def tell(report: Report, *, is_whole: bool) -> None:
    """Raise an alert for each rule that is broken, and close those of rules that hold again."""
    found = {finding.kind: finding for finding in report.findings}
    for kind in SENTENCES:
        if kind in found:
            advice = f"{_ADVICE}, and `--repair` mends them." if kind in REPAIRABLE else _ADVICE
            raise_alert(
                code=_ALERT,
                subject=kind,
                severity="critical",
                title=found[kind].sentence,
                detail=f"{advice} See the runbook, “The queue check”.",
            )
        elif is_whole or kind not in _WALKED:
            close_alert(code=_ALERT, subject=kind)
    close_unseen(code=_ALERT, seconds=_ROUND_SECONDS)


def _kept_cursor() -> Cursor:
    try:
        return cache.get(_CURSOR) or Cursor()
    except RedisError:
        return Cursor()


def _keep_cursor(cursor: Cursor) -> None:
    try:
        cache.set(_CURSOR, cursor, 24 * 3600)
    except RedisError:
        return  # the next look begins anew
