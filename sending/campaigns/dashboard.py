"""What the dashboard shows: the first steps, what needs attention, the last 30 days."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from django.db.models import Sum
from django.db.models.functions import TruncDate
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from deliverability.domains.models import Domain, Sender
from sending.audience.models import Contact
from sending.campaigns.models import Campaign
from sending.campaigns.report import CLICKED_UNIQUE, OPENED_UNIQUE, Totals, totals_from
from sending.content.models import Template
from sending.events.models import EventKind, StatBucket
from sending.events.selectors import KindCount
from sending.messages.models import Batch, QueueEntry
from tenants.audit.models import AuditEntry

DAYS: Final = 30
_STATUS = Campaign.Status


@dataclass(frozen=True)
class Step:
    """One line of the first-run checklist; `state` is done, next or empty."""

    title: str
    text: str
    url: str
    action: str
    state: str = ""


@dataclass(frozen=True)
class Alert:
    """Something that wants a person's eye."""

    kind: str
    title: str
    text: str
    url: str
    action: str


@dataclass(frozen=True)
class Month:
    """The tenant's last 30 days: sums, a point a day, and what waits in the queue now."""

    totals: Totals
    points: list[dict[str, Any]]
    waiting: int
    has_any: bool


def _url(name: str, **query: str) -> str:
    """Return the address of a page of another room; "" where it does not exist."""
    try:
        address = reverse(name)
    except NoReverseMatch:
        return ""
    return f"{address}?{urlencode(query)}" if query else address


def first_steps() -> list[Step]:
    """Return the steps to the first campaign, with what is done as the data says."""
    was_tested = AuditEntry.objects.filter(action="campaigns.test").exists()
    was_sent = Campaign.objects.filter(batch__isnull=False).exists()
    has_content = Template.objects.exists() or Campaign.objects.exclude(body="").exists()
    rows = [
        (
            Domain.objects.filter(status=Domain.Status.VERIFIED).exists(),
            Step(
                "Verify your sending domain",
                "Publish a few DNS records, so that receivers trust your mail.",
                _url("domains-list"),
                "Add domain",
            ),
        ),
        (
            Sender.objects.exists(),
            Step(
                "Add a sender",
                "The name and address that people see in their inbox.",
                _url("senders-list"),
                "Add sender",
            ),
        ),
        (
            Contact.objects.exists(),
            Step(
                "Import your contacts",
                "Upload a CSV file and see who can be written to.",
                _url("imports-list"),
                "Import contacts",
            ),
        ),
        (
            has_content,
            Step(
                "Design a mail",
                "Start from a template, or write HTML, MJML or plain text.",
                _url("templates-list"),
                "See templates",
            ),
        ),
        (
            was_tested or was_sent,
            Step(
                "Send yourself a test",
                "From the campaign's editor: look at it in your own inbox first.",
                _url("campaigns-list"),
                "Open campaigns",
            ),
        ),
        (
            was_sent,
            Step(
                "Send your first campaign",
                "The review tells who gets it, who does not, and why.",
                _url("campaigns-add"),
                "Create campaign",
            ),
        ),
    ]
    return _marked(rows)


def _marked(rows: list[tuple[bool, Step]]) -> list[Step]:
    steps = []
    is_next = True
    for is_done, step in rows:
        state = "done" if is_done else "next" if is_next else ""
        is_next = is_next and is_done
        steps.append(Step(step.title, step.text, step.url, step.action, state))
    return steps


def alerts() -> list[Alert]:
    """Return what wants attention: domains that fail, campaigns that stand still or failed."""
    found = []
    failing = Domain.objects.filter(status=Domain.Status.FAILING).values_list("name", flat=True)
    for name in failing[:3]:
        found.append(
            Alert(
                "error",
                f"{name} may not send any more",
                "A required DNS record is gone. Publish it again and check the domain.",
                _url("domains-list"),
                "See domains",
            )
        )
    since = timezone.now() - dt.timedelta(days=7)
    stopped = Campaign.objects.filter(status=_STATUS.FAILED, finished_at__gte=since)
    for campaign in stopped.order_by("-id")[:3]:
        found.append(_about(campaign, "error", "could not start", campaign.failure))
    for campaign in Campaign.objects.filter(status=_STATUS.PAUSED).order_by("-id")[:3]:
        text = "Nothing of it leaves until you resume it."
        found.append(_about(campaign, "warning", "is paused", text))
    return found


def _about(campaign: Campaign, kind: str, what: str, text: str) -> Alert:
    address = reverse("campaigns-detail", kwargs={"campaign_id": campaign.public_id})
    return Alert(kind, f"“{campaign.name}” {what}", text, address, "Open campaign")


def month() -> Month:
    """Return the numbers of the last 30 days (in UTC days), of campaigns and API together."""
    today = timezone.now().astimezone(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    since = today - dt.timedelta(days=DAYS - 1)
    rows = (
        StatBucket.objects.filter(hour__gte=since)
        .annotate(day=TruncDate("hour", tzinfo=dt.UTC))
        .values_list("day", "kind")
        .annotate(total=Sum("count"))
    )
    by_day: dict[dt.date, dict[str, int]] = {}
    sums: dict[str, int] = {}
    for day, kind, total in rows:
        by_day.setdefault(day, {})[kind] = total
        sums[kind] = sums.get(kind, 0) + total
    points = []
    for offset in range(DAYS):
        day = (since + dt.timedelta(days=offset)).date()
        kinds = by_day.get(day, {})
        points.append(
            {
                "label": f"{day.day} {day:%b}",
                "delivered": kinds.get(EventKind.DELIVERED, 0),
                "opens": kinds.get(OPENED_UNIQUE, 0),
                "clicks": kinds.get(CLICKED_UNIQUE, 0),
            }
        )
    counts = [KindCount(kind, "", total) for kind, total in sums.items()]
    totals = totals_from(counts, recipients=sums.get(EventKind.ACCEPTED, 0))
    return Month(totals, points, _waiting(), has_any=bool(sums))


def _waiting() -> int:
    running = list(
        Batch.objects.filter(status__in=[Batch.Status.RUNNING, Batch.Status.PAUSED]).values_list(
            "pk", flat=True
        )
    )
    return QueueEntry.objects.filter(batch_id__in=running).count() if running else 0
