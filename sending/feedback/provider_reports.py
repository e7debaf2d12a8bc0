"""Providers' reports about mail that routes handed them: stored when they come, worked after.

As with mail, storing is all that the web process does. What a report means for its message is
decided in `handling`, as for a bounce mail that says the same.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict

import orjson
from django.db import OperationalError, connection, transaction
from django.db.models import F, Q
from django.utils import timezone

from esp.kit.jobs import enqueue_on_commit
from esp.lib import ids
from sending.engine.addresses import ascii_domain
from sending.engine.classify import UNKNOWN
from sending.engine.replies import clean
from sending.events.models import Attempt
from sending.feedback import jobs
from sending.feedback.addresses import Inbox, Purpose
from sending.feedback.dsn import classify_report
from sending.feedback.handling import Result, handle
from sending.feedback.models import InboundMail, ProviderReport
from sending.feedback.services import KEEP_DAYS
from sending.feedback.types import Action, ParsedMail, RecipientReport
from sending.messages.models import Message
from sending.routes.models import Route
from sending.routes.providers import PROVIDERS
from sending.routes.services import note_unmatched
from sending.routes.webhooks.types import Report

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 5
_SWEEP_SECONDS = 4.0
_Status = InboundMail.Status
_ACTIONS: dict[str, Action] = {
    "bounced": "failed",
    "deferred": "delayed",
    "delivered": "delivered",
}

# The web's role may add rows and not read them, so no conflicting key is named here.
_ADD = """
INSERT INTO sending_providerreport
    (id, received_at, route_id, key, said, status, problem, attempts)
SELECT id, %(now)s, %(route)s, key, said, 'new', '', 0
FROM unnest(%(ids)s::uuid[], %(keys)s::text[], %(said)s::jsonb[]) AS new (id, key, said)
ON CONFLICT DO NOTHING
"""


class NotThereYet(Exception):
    """The route has carried no such message; the result of its attempt may be under way."""


def store_reports(route_id: uuid.UUID, reports: Sequence[Report]) -> int:
    """Keep reports in the running transaction; return how many were new. A repeated one is none."""
    if not reports:
        return 0
    keys = [ids.new_id() for _ in reports]
    with connection.cursor() as cursor:
        cursor.execute(
            _ADD,
            {
                "now": timezone.now(),
                "route": route_id,
                "ids": keys,
                "keys": [report.key for report in reports],
                "said": [orjson.dumps(asdict(report)).decode() for report in reports],
            },
        )
        count: int = cursor.rowcount
    if count:
        enqueue_on_commit(jobs.REPORTS)
    return count


def process_report(report_id: uuid.UUID) -> None:
    """Do what a stored report asks for, once: all in one transaction with the report's own status.

    One whose message is not known is tried again: reports can be faster than the batch that writes
    the attempt's result. After five times it is ignored, and counted at its route.
    """
    try:
        with transaction.atomic():
            _work(report_id)
    except OperationalError:  # the database is away: says nothing about the report
        raise
    except NotThereYet as error:
        _put_off(report_id, str(error), _Status.IGNORED)
    except Exception as error:
        log.exception("a provider's report %s could not be worked", report_id)
        _put_off(report_id, clean(f"{type(error).__name__}: {error}"), _Status.FAILED)


def _work(report_id: uuid.UUID) -> None:
    rows = ProviderReport.objects.select_for_update(skip_locked=True)
    row = rows.filter(pk=report_id, status=_Status.NEW).first()
    if row is None:  # done already, or at work elsewhere
        return
    result = _handle(row)
    row.status = _Status.DONE if result.is_done else _Status.IGNORED
    row.message_id = result.message_id
    row.problem = result.reason[:300]
    row.save(update_fields=["status", "message_id", "problem"])


def _handle(row: ProviderReport) -> Result:
    route = Route.objects.filter(pk=row.route_id).first()
    if route is None:
        return Result("report", None, "The route was removed.")
    report = Report(**row.said)
    message_id = _message_of(route, report)
    provider = PROVIDERS.get(str(route.options.get("provider", "")))
    mail = _as_mail(report, provider.title if provider else route.name)
    purpose: Purpose = "unsubscribe" if report.kind == "unsubscribed" else "bounce"
    return handle(Inbox(purpose, message_id), mail)


def _message_of(route: Route, report: Report) -> uuid.UUID:
    """Return the message that a report is about; raises NotThereYet.

    A route can speak of nothing but what it has carried, to whom it has carried it: an attempt of
    ours by this route must stand in the log, whatever id the call names.
    """
    attempts = Attempt.unscoped.filter(route=route.name)
    found: uuid.UUID | None = None
    for own in (_own_id(report.message), _message_id(report.provider_id)):
        if own is not None and attempts.filter(message_id=own).exists():
            found = own
            break
    if found is None and report.provider_id:
        named = attempts.filter(provider_id=report.provider_id[:200]).order_by("-id")
        found = named.values_list("message_id", flat=True).first()
    if found is None:
        raise NotThereYet("This route has carried no such message.")
    sent_to = Message.unscoped.filter(pk=found).values_list("recipient", flat=True).first()
    if sent_to is None:
        raise NotThereYet("The message does not exist any more.")
    if report.recipient and _plain(report.recipient) != _plain(sent_to):
        raise NotThereYet("It names another recipient than the message had.")
    return found


def _own_id(text: str) -> uuid.UUID | None:
    try:
        return ids.from_public("msg", text) if text else None
    except ValueError:
        return None


def _message_id(text: str) -> uuid.UUID | None:
    """Return the message of a Message-ID that we made, which most providers keep."""
    local, at, _ = text.strip("<>").partition("@")
    try:
        return ids.decode(local) if at else None
    except ValueError:
        return None


def _plain(address: str) -> str:
    local, _, domain = address.strip().rpartition("@")
    with contextlib.suppress(ValueError):
        domain = ascii_domain(domain)
    return f"{local}@{domain}".lower()


def _as_mail(report: Report, provider: str) -> ParsedMail:
    """Return the report as the mail that would say the same."""
    if report.kind == "complained":
        return ParsedMail("arf", feedback_type="abuse", source=provider)
    if report.kind == "autoreplied":
        return ParsedMail("auto-reply", subject=report.text[:200], source=provider)
    action = _ACTIONS.get(report.kind)
    if action is None:
        return ParsedMail("other", source=provider)
    classification, text = "none/delivered", report.text
    if action != "delivered":
        classification, _ = classify_report(report.text, report.status, "")
        if classification == UNKNOWN and report.hint:
            classification = report.hint
        text = text or f"{provider} gave no reason."
    about = RecipientReport(report.recipient, action, report.status, text, classification)
    return ParsedMail("dsn", reports=(about,), source=provider)


def _put_off(report_id: uuid.UUID, problem: str, final: InboundMail.Status) -> None:
    rows = ProviderReport.objects.filter(pk=report_id, status=_Status.NEW)
    rows.update(attempts=F("attempts") + 1, problem=problem[:300])
    ended = rows.filter(attempts__gte=MAX_ATTEMPTS)
    route_id = ended.values_list("route_id", flat=True).first()
    if ended.update(status=final) and final == _Status.IGNORED:
        note_unmatched(route_id)


def reports_due(now: dt.datetime, *, limit: int = 500) -> list[uuid.UUID]:
    """Return stored reports to work now, oldest first; each failure makes the wait longer."""
    waited = Q(attempts=0)
    for attempts in range(1, MAX_ATTEMPTS):
        since = now - dt.timedelta(seconds=5 * 4 ** (attempts - 1))
        waited |= Q(attempts=attempts, received_at__lte=since)
    rows = ProviderReport.objects.filter(waited, status=_Status.NEW)
    return list(rows.order_by("id").values_list("id", flat=True)[:limit])


def work_reports() -> int:
    """Work the reports that wait, for some seconds; return how many were taken up."""
    end = time.monotonic() + _SWEEP_SECONDS
    done = 0
    for report_id in reports_due(timezone.now()):
        process_report(report_id)
        done += 1
        if time.monotonic() > end:
            break
    return done


def purge_reports(*, now: dt.datetime) -> int:
    """Forget reports older than 30 days; returns how many."""
    oldest = ids.lower_bound(now - dt.timedelta(days=KEEP_DAYS))
    removed = 0
    while True:
        some = ProviderReport.objects.filter(pk__lt=oldest).values_list("pk", flat=True)[:1000]
        count, _ = ProviderReport.objects.filter(pk__in=list(some)).delete()
        removed += count
        if not count:
            return removed
