"""Read the roll-ups: sums for reports, curves by hour, links."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass

from django.db.models import Sum

from sending.events.models import LinkStat, StatBucket


@dataclass(frozen=True, slots=True)
class KindCount:
    """How many events of a kind, with its split (`detail`)."""

    kind: str
    detail: str
    count: int


def counts_for_batch(batch_id: uuid.UUID) -> list[KindCount]:
    """Return the batch's sums by kind and detail, over all hours and sites."""
    rows = (
        StatBucket.objects.filter(batch_id=batch_id)
        .values_list("kind", "detail")
        .annotate(total=Sum("count"))
    )
    return [KindCount(kind, detail, total) for kind, detail, total in rows]


def counts_by_site(batch_id: uuid.UUID) -> dict[str, dict[str, int]]:
    """Return {site: {kind: count}} of a batch."""
    rows = (
        StatBucket.objects.filter(batch_id=batch_id)
        .values_list("site", "kind")
        .annotate(total=Sum("count"))
    )
    table: dict[str, dict[str, int]] = {}
    for site, kind, total in rows:
        table.setdefault(site, {})[kind] = total
    return table


def counts_by_hour(
    batch_id: uuid.UUID, *, kinds: list[str], since: dt.datetime, hours: int
) -> dict[str, list[int]]:
    """Return {kind: count of each hour} for `hours` hours from the hour of `since`."""
    start = since.astimezone(dt.UTC).replace(minute=0, second=0, microsecond=0)
    end = start + dt.timedelta(hours=hours)
    rows = (
        StatBucket.objects.filter(batch_id=batch_id, kind__in=kinds, hour__gte=start, hour__lt=end)
        .values_list("kind", "hour")
        .annotate(total=Sum("count"))
    )
    series = {kind: [0] * hours for kind in kinds}
    for kind, hour, total in rows:
        series[kind][int((hour - start).total_seconds() // 3600)] = total
    return series


def counts_for_tenant(*, since: dt.datetime, until: dt.datetime) -> dict[str, int]:
    """Return {kind: count} of the tenant in scope between two moments (whole hours)."""
    rows = (
        StatBucket.objects.filter(hour__gte=since, hour__lt=until)
        .values_list("kind")
        .annotate(total=Sum("count"))
    )
    return dict(rows)


def top_links(batch_id: uuid.UUID, *, limit: int = 20) -> list[LinkStat]:
    """Return the batch's links with the most clicks by people."""
    return list(
        LinkStat.objects.filter(batch_id=batch_id).order_by("-clicks", "link_index")[:limit]
    )
