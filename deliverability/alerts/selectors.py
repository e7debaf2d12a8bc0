"""Reading operators' alerts."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Case, IntegerField, QuerySet, When

from deliverability.alerts.models import Alert


def open_alerts() -> list[Alert]:
    """Return the open alerts: critical ones first, then the newest."""
    rank = Case(
        When(severity=Alert.Severity.CRITICAL, then=0), default=1, output_field=IntegerField()
    )
    return list(Alert.objects.filter(closed_at=None).order_by(rank, "-opened_at")[:200])


def past_alerts() -> QuerySet[Alert]:
    """Return the alerts that are over."""
    return Alert.objects.exclude(closed_at=None)


@dataclass(frozen=True)
class AlertCount:
    """How many alerts are open, and the first sentence to say of them."""

    total: int
    critical: int
    title: str


def alert_count() -> AlertCount:
    """Return what the banner on operators' pages says."""
    found = open_alerts()
    critical = sum(alert.severity == Alert.Severity.CRITICAL for alert in found)
    return AlertCount(len(found), critical, found[0].title if found else "")
