"""Reads of TLS policies, demands and results."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db.models import Q, QuerySet, Sum
from django.utils import timezone

from deliverability.tls.models import MtaStsPolicy, TlsRequirement, TlsResult

SHOWN_DAYS = 7
_SHOWN = 100


def policy_of(domain: str) -> MtaStsPolicy | None:
    """Return the stored policy of `domain`, perhaps one that has ended."""
    return MtaStsPolicy.objects.filter(domain=domain).first()


def required_domains() -> frozenset[str]:
    """Return the domains that get mail by verified TLS only."""
    return frozenset(TlsRequirement.objects.values_list("domain", flat=True))


def requirements() -> QuerySet[TlsRequirement]:
    """Return the demands, by domain."""
    return TlsRequirement.objects.order_by("domain")


def results_by_domain() -> list[Any]:
    """Return domain, policy_type, good, bad of the last week; the most failures first."""
    since = timezone.now().date() - dt.timedelta(days=SHOWN_DAYS)
    rows = (
        TlsResult.objects.filter(day__gte=since)
        .values("domain", "policy_type")
        .annotate(
            good=Sum("sessions", filter=Q(result_type="success"), default=0),
            bad=Sum("sessions", filter=~Q(result_type="success"), default=0),
        )
        .order_by("-bad", "-good", "domain")
    )
    return list(rows[:_SHOWN])


def failures_by_kind() -> list[Any]:
    """Return domain, result_type, mx_host, sessions of the last week's failures, most first."""
    since = timezone.now().date() - dt.timedelta(days=SHOWN_DAYS)
    rows = (
        TlsResult.objects.filter(day__gte=since)
        .exclude(result_type="success")
        .values("domain", "result_type", "mx_host")
        .annotate(sessions=Sum("sessions"))
        .order_by("-sessions", "domain")
    )
    return list(rows[:_SHOWN])
