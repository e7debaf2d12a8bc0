"""A campaign in numbers: progress while it is sent, the report afterwards.

Every rate names its denominator: delivery and bounces are of recipients, everything that readers do
is of delivered messages, click-to-open is of unique opens by people.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.utils import timezone

from sending.campaigns.models import Campaign
from sending.campaigns.selectors import counts_for_batches
from sending.engine.classify import explain, title
from sending.events.models import EventKind, LinkStat
from sending.events.selectors import (
    KindCount,
    counts_by_hour,
    counts_by_site,
    counts_for_batch,
    top_links,
)
from sending.messages.models import QueueEntry

# Unique counts, written beside the events (`tracking.services`).
OPENED_UNIQUE = "opened_unique"
MACHINE_OPENED_UNIQUE = "machine_opened_unique"
CLICKED_UNIQUE = "clicked_unique"
CURVE_HOURS = 24


@dataclass(frozen=True)
class Totals:
    """Messages of a campaign by what became of them; all are counts of messages."""

    recipients: int = 0
    delivered: int = 0
    bounced: int = 0
    bounced_late: int = 0
    expired: int = 0
    dropped: int = 0
    cancelled: int = 0
    complained: int = 0
    unsubscribed: int = 0
    opened: int = 0
    machine_opened: int = 0
    clicked: int = 0

    @property
    def final(self) -> int:
        """Messages whose delivery is over."""
        return self.delivered + self.bounced + self.expired + self.dropped + self.cancelled

    @property
    def arrived(self) -> int:
        """Messages that a server took and did not send back later: what readers can act on."""
        return max(0, self.delivered - self.bounced_late)

    @property
    def all_bounced(self) -> int:
        """Bounces during delivery and later ones; a late one was counted delivered before."""
        return self.bounced + self.bounced_late

    @property
    def never_left(self) -> int:
        """Messages that were given up, not sent or cancelled."""
        return self.expired + self.dropped + self.cancelled


@dataclass(frozen=True)
class Progress:
    """The live page: disjoint parts that add up to `recipients`."""

    totals: Totals
    queued: int
    deferred: int
    rate_per_second: float
    seconds_left: float | None


@dataclass(frozen=True)
class SiteRow:
    """One mailbox provider's line."""

    site: str
    delivered: int
    bounced: int
    deferred: int
    opened: int
    clicked: int
    complained: int

    @property
    def final(self) -> int:
        """Messages whose delivery is over, as far as this provider decided it."""
        return self.delivered + self.bounced


@dataclass(frozen=True)
class Report:
    """Everything that the report page and its CSV show."""

    totals: Totals
    bounces_by_class: dict[str, int]
    sites: list[SiteRow]
    links: list[LinkStat]
    curve: dict[str, list[int]]


def _sum(counts: list[KindCount], kind: str) -> int:
    return sum(count.count for count in counts if count.kind == kind)


def totals_of(campaign: Campaign, counts: list[KindCount]) -> Totals:
    """Return the campaign's totals from the batch's roll-up."""
    return totals_from(counts, recipients=campaign.recipients_prepared)


def totals_for(campaigns: Sequence[Campaign]) -> dict[uuid.UUID, Totals]:
    """Return {campaign's key: totals} of several campaigns, from one query."""
    counts = counts_for_batches(one.batch_id for one in campaigns if one.batch_id)
    return {
        one.pk: totals_of(one, counts[one.batch_id]) if one.batch_id else Totals()
        for one in campaigns
    }


def sum_of(many: Iterable[Totals]) -> Totals:
    """Return the sums of several campaigns' totals."""
    rows = [dataclasses.asdict(totals) for totals in many]
    names = [field.name for field in dataclasses.fields(Totals)]
    return Totals(**{name: sum(row[name] for row in rows) for name in names})


def totals_from(counts: list[KindCount], *, recipients: int) -> Totals:
    """Return totals from a roll-up."""
    return Totals(
        recipients=recipients,
        delivered=_sum(counts, EventKind.DELIVERED),
        bounced=_sum(counts, EventKind.BOUNCED),
        bounced_late=_sum(counts, EventKind.BOUNCED_LATE),
        expired=_sum(counts, EventKind.EXPIRED),
        dropped=_sum(counts, EventKind.DROPPED),
        cancelled=_sum(counts, EventKind.CANCELLED),
        complained=_sum(counts, EventKind.COMPLAINED),
        unsubscribed=_sum(counts, EventKind.UNSUBSCRIBED),
        opened=_sum(counts, OPENED_UNIQUE),
        machine_opened=_sum(counts, MACHINE_OPENED_UNIQUE),
        clicked=_sum(counts, CLICKED_UNIQUE),
    )


def progress_of(campaign: Campaign) -> Progress:
    """Return where a running campaign stands."""
    if campaign.batch_id is None:
        return Progress(Totals(), 0, 0, 0.0, None)
    totals = totals_of(campaign, counts_for_batch(campaign.batch_id))
    deferred = QueueEntry.objects.filter(batch_id=campaign.batch_id, attempts__gt=0).count()
    waiting = max(0, campaign.recipients_prepared - totals.final)
    to_come = max(0, campaign.recipients_total - campaign.recipients_prepared)
    rate = _rate(campaign, totals)
    left = (waiting + to_come) / rate if rate else None
    return Progress(
        totals=totals,
        queued=max(0, waiting - deferred) + to_come,
        deferred=min(deferred, waiting),
        rate_per_second=rate,
        seconds_left=left,
    )


def _rate(campaign: Campaign, totals: Totals) -> float:
    """Return messages a second over the campaign's whole run; pauses count as time."""
    if campaign.started_at is None:
        return 0.0
    end = campaign.finished_at or timezone.now()
    seconds = (end - campaign.started_at).total_seconds()
    return totals.final / seconds if seconds > 0 else 0.0


def report_of(campaign: Campaign) -> Report:
    """Return the campaign's report; an unsent campaign has an empty one."""
    if campaign.batch_id is None or campaign.started_at is None:
        return Report(Totals(), {}, [], [], {})
    counts = counts_for_batch(campaign.batch_id)
    bounces: dict[str, int] = {}
    for count in counts:
        if count.kind in {EventKind.BOUNCED, EventKind.BOUNCED_LATE}:
            bounces[count.detail] = bounces.get(count.detail, 0) + count.count
    since = campaign.started_at.astimezone(dt.UTC)
    return Report(
        totals=totals_of(campaign, counts),
        bounces_by_class=dict(sorted(bounces.items(), key=lambda item: -item[1])),
        sites=_site_rows(counts_by_site(campaign.batch_id)),
        links=top_links(campaign.batch_id),
        curve=counts_by_hour(
            campaign.batch_id,
            kinds=[EventKind.DELIVERED, OPENED_UNIQUE, CLICKED_UNIQUE],
            since=since,
            hours=CURVE_HOURS,
        ),
    )


def _site_rows(table: dict[str, dict[str, int]]) -> list[SiteRow]:
    rows = [
        SiteRow(
            site=site,
            delivered=max(
                0, kinds.get(EventKind.DELIVERED, 0) - kinds.get(EventKind.BOUNCED_LATE, 0)
            ),
            bounced=kinds.get(EventKind.BOUNCED, 0) + kinds.get(EventKind.BOUNCED_LATE, 0),
            deferred=kinds.get(EventKind.DEFERRED, 0),
            opened=kinds.get(OPENED_UNIQUE, 0),
            clicked=kinds.get(CLICKED_UNIQUE, 0),
            complained=kinds.get(EventKind.COMPLAINED, 0),
        )
        for site, kinds in table.items()
        if site
    ]
    return sorted(rows, key=lambda row: -row.final)


# --- what the pages draw ---


@dataclass(frozen=True)
class Row:
    """A campaign in a list: its totals, and the parts of its small bar out of `planned`."""

    campaign: Campaign
    totals: Totals
    parts: list[dict[str, Any]]
    planned: int


def rows_of(campaigns: Sequence[Campaign]) -> list[Row]:
    """Return the rows of a list of campaigns, with two queries however many they are."""
    totals = totals_for(campaigns)
    rows = []
    for campaign in campaigns:
        parts = bar_parts(campaign, totals[campaign.pk])
        planned = sum(part["count"] for part in parts)
        rows.append(Row(campaign, totals[campaign.pk], parts, planned))
    return rows


def time_left(seconds: float | None) -> str:
    """Return a rest of time in words: "–" when nobody knows."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{max(0, round(seconds))} s"
    if seconds < 3600:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def bar_parts(campaign: Campaign, totals: Totals) -> list[dict[str, Any]]:
    """Return the small bar of a list: delivered, bounced, not sent, waiting."""
    if campaign.batch_id is None:
        return []
    planned = max(campaign.recipients_total, totals.recipients)
    return [
        {"label": "Delivered", "count": totals.arrived, "kind": "success"},
        {"label": "Bounced", "count": totals.all_bounced, "kind": "error"},
        {"label": "Not sent", "count": totals.never_left, "kind": "muted"},
        {"label": "Waiting", "count": max(0, planned - totals.final), "kind": "neutral"},
    ]


def progress_parts(progress: Progress) -> list[dict[str, Any]]:
    """Return the live page's bar; its parts are disjoint and add up to the recipients."""
    totals = progress.totals
    parts = [
        {"label": "Delivered", "count": totals.arrived, "kind": "success"},
        {"label": "Bounced", "count": totals.all_bounced, "kind": "error"},
        {"label": "Deferred", "count": progress.deferred, "kind": "warning"},
        {"label": "Queued", "count": progress.queued, "kind": "neutral"},
    ]
    if totals.never_left:
        parts.append({"label": "Not sent", "count": totals.never_left, "kind": "muted"})
    return parts


@dataclass(frozen=True)
class BounceRow:
    """Bounces of one class, in plain words."""

    title: str
    explanation: str
    count: int


def bounce_rows(report: Report) -> list[BounceRow]:
    """Return the bounces by class, most first."""
    return [
        BounceRow(title(name), explain(name), count)
        for name, count in report.bounces_by_class.items()
    ]


def curve_points(campaign: Campaign, report: Report, zone: str) -> list[dict[str, Any]]:
    """Return unique opens and clicks by hour for the first 24 hours, labelled in `zone`."""
    if campaign.started_at is None or not report.curve:
        return []
    start = campaign.started_at.astimezone(ZoneInfo(zone))
    opens = report.curve.get(OPENED_UNIQUE, [])
    clicks = report.curve.get(CLICKED_UNIQUE, [])
    return [
        {
            "label": (start + dt.timedelta(hours=hour)).strftime("%H:00"),
            "opens": opens[hour],
            "clicks": clicks[hour],
        }
        for hour in range(min(len(opens), len(clicks)))
    ]


LEFT_OUT: Final[dict[str, str]] = {
    "unsubscribed": "Unsubscribed from the lists",
    "unconfirmed": "Have not confirmed their subscription",
    "suppressed": "Suppressed: bounced, complained, or added by hand",
    "excluded": "On a list that was left out",
    "invalid": "The address cannot exist",
    "duplicate": "On more than one list (got it once)",
}


def left_out_rows(campaign: Campaign) -> list[tuple[str, int]]:
    """Return (reason, how many) of those who did not get it, as it was at the start."""
    return [
        (words, campaign.left_out[reason])
        for reason, words in LEFT_OUT.items()
        if campaign.left_out.get(reason)
    ]
