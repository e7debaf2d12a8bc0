"""What an operator sees of one tenant: read-only, inside that tenant's scope."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.db.models import Sum
from django.utils import timezone

from deliverability.domains.models import Domain
from deliverability.ips.models import PoolRule
from deliverability.ips.selectors import pool_rules_of
from sending.audience.models import Contact
from sending.events.models import StatBucket
from tenants.audit.models import AuditEntry
from tenants.audit.words import words_for
from tenants.directory.models import Invitation, Membership, Tenant
from tenants.directory.selectors import members, open_invitations
from tenants.scoping.context import scope

DAYS = 30
_KINDS = ("accepted", "delivered", "bounced", "complained")
_ENTRIES = 15


@dataclass(frozen=True)
class TenantView:
    """A tenant's people, domains, figures of the last 30 days, and latest audit entries."""

    members: list[Membership]
    invitations: list[Invitation]
    domains: list[Domain]
    contacts: int
    volume: dict[str, int]
    rules: list[PoolRule]
    entries: list[tuple[AuditEntry, str]]


def view_of(tenant: Tenant) -> TenantView:
    """Return what the console shows of `tenant`."""
    since = timezone.now() - dt.timedelta(days=DAYS)
    with scope(tenant.pk):
        sums = dict(
            StatBucket.objects.filter(hour__gte=since, kind__in=_KINDS)
            .values_list("kind")
            .annotate(total=Sum("count"))
        )
        return TenantView(
            members=members(),
            invitations=open_invitations(),
            domains=list(Domain.objects.order_by("name")),
            contacts=Contact.objects.count(),
            volume={kind: sums.get(kind, 0) for kind in _KINDS},
            rules=pool_rules_of(tenant.pk),
            entries=[
                (entry, words_for(entry.action))
                for entry in AuditEntry.objects.order_by("-id")[:_ENTRIES]
            ],
        )
