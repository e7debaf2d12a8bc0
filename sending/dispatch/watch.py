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
from sending.dispatch.invariants import SENTENCES, Cursor, Finding, Report, check_queue
from sending.dispatch.mending import mend

_ALERT = "queue-stuck"
_CURSOR = "dispatch:check-queue:cursor"
# Found by walks that take a window a run: unseen for so long, it was not there in a whole round.
_WALKED = frozenset(
    {"no-entry", "orphan-entry", "expired", "far-due", "ahead", "no-content", "misfiled"}
)
_ROUND_SECONDS = 3600.0
# Mended at once, and told: nobody need decide, and the mail need not wait for a person. What might
# send a message again waits for one.
_MENDED_AT_ONCE = frozenset(
    {"expired", "far-due", "ahead", "long-lease", "no-content", "orphan-entry", "misfiled"}
)
_ADVICE = {
    "no-entry": "They are put back by `manage.py check_queue --all --repair`; one that has left "
    "already would then go again under the same Message-ID.",
    "overdue": "Are the workers of that stream running, and do their logs say why they take "
    "nothing? `manage.py why MESSAGE` says it of one message.",
    "dead-lease": "Are the workers of that stream running? Any that runs takes them over.",
    "closed-batch": "Somebody has changed rows by hand: cancel the messages, or set the batch "
    "back to running.",
    "no-batch": "Somebody has deleted a batch by hand: restore it, or let the messages expire.",
}


@shared_task(name=jobs.CHECK_QUEUE)
def check() -> None:
    """Look at the next window of the queue."""
    begun = time.monotonic()
    after = _kept_cursor()
    report = check_queue(now=timezone.now(), after=after)
    mend(report, now=timezone.now(), kinds=_MENDED_AT_ONCE)
    _keep_cursor(report.cursor)
    tell(report, is_whole=after == report.cursor == Cursor())
    seen = f"{report.entries_seen:,} entries and {report.messages_seen:,} messages looked at"
    said = f"{len(report.findings)} rules broken" if report.findings else "nothing wrong"
    note_check("queue", f"{said}; {seen} in {(time.monotonic() - begun) * 1000:.0f} ms")


def tell(report: Report, *, is_whole: bool) -> None:
    """Raise an alert for each rule that is broken, and close those of rules that hold again."""
    found = {finding.kind: finding for finding in report.findings}
    for kind in SENTENCES:
        if kind in found:
            _tell_one(found[kind], report.repaired.get(kind, 0))
        elif is_whole or kind not in _WALKED:
            close_alert(code=_ALERT, subject=kind)
    close_unseen(code=_ALERT, seconds=_ROUND_SECONDS)


def _tell_one(finding: Finding, mended: int) -> None:
    examples = ", ".join(finding.as_dict()["examples"])
    is_well = mended >= len(finding.ids)
    advice = _ADVICE.get(finding.kind, "`manage.py check_queue --all --repair` mends the rest.")
    raise_alert(
        code=_ALERT,
        subject=finding.kind,
        severity="warning" if is_well else "critical",
        title=finding.sentence,
        detail=f"{f'{mended} were mended at once. ' if mended else ''}"
        f"{'Nothing is left to do.' if is_well else advice}\nFor example {examples}.\n"
        "See the runbook, “The queue check”.",
    )


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
