"""Looks at what is outside: addresses' names in DNS, nodes' signs of life."""

from __future__ import annotations

import datetime as dt

from django.conf import settings
from django.utils import timezone

from deliverability.alerts.services import close_alert, close_unseen, raise_alert, settle_alert
from deliverability.ips.models import DeliveryNode, IpAddress
from deliverability.ips.nodes import dead_before
from deliverability.ips.ptr import PtrFinding, inspect_ptr
from deliverability.ips.recording import record_change, require_operator
from esp.lib.dns import make_resolver
from tenants.accounts.models import User

_PTR = "ptr-broken"
_NODE = "node-dead"
_FORGET_AFTER = dt.timedelta(days=7)


def check_ptr(*, operator: User, row: IpAddress) -> PtrFinding:
    """Check an address's name in DNS now; what is found is stored and an alert follows it."""
    require_operator(operator)
    finding = _check(row)
    record_change(operator, "ips.check_ptr", row.address, problem=finding.problem)
    return finding


def check_addresses() -> int:
    """Check every address that is in use; return how many are broken. For the daily job."""
    broken = 0
    for row in IpAddress.objects.exclude(status=IpAddress.Status.OFF):
        finding = _check(row)
        broken += bool(finding.problem) and not finding.is_temporary
    # Addresses that were removed or switched off have nobody to close their alert.
    close_unseen(code=_PTR, seconds=3 * 24 * 3600)
    return broken


def _check(row: IpAddress) -> PtrFinding:
    finding = inspect_ptr(row.address, row.ehlo_name, make_resolver(settings.DNS_RESOLVERS))
    if finding.is_temporary:
        return finding  # nothing is known: what was found last stands
    row.ptr_checked_at, row.ptr_problem = timezone.now(), finding.problem[:300]
    row.save(update_fields=["ptr_checked_at", "ptr_problem"])
    settle_alert(
        is_on=bool(finding.problem) and row.status != IpAddress.Status.OFF,
        code=_PTR,
        subject=row.address,
        severity="warning",
        title=f"The name of {row.address} in DNS is not right",
        detail=f"{finding.problem} Many receivers refuse mail from such an address or take it for "
        "spam. Mend the record, then press “Check” on the address's page.",
    )
    return finding


def check_nodes() -> list[str]:
    """Raise an alert for each dead node that has active addresses; return their names.

    A node that has been dead for a week and has no addresses is forgotten.
    """
    now = timezone.now()
    seen = {node.name: node.seen_at for node in DeliveryNode.objects.all()}
    owned: dict[str, list[str]] = {}
    for row in IpAddress.objects.exclude(node="").filter(status=IpAddress.Status.ACTIVE):
        owned.setdefault(row.node, []).append(row.address)
    dead = sorted(name for name in owned if name not in seen or seen[name] < dead_before(now))
    for name in dead:
        since = f"since {seen[name]:%Y-%m-%d %H:%M} UTC" if name in seen else "yet"
        raise_alert(
            code=_NODE,
            subject=name,
            severity="critical",
            title=f"The delivery node {name} has given no sign of life {since}",
            detail=f"It has the addresses {', '.join(owned[name])[:500]}. Their mail moves to the "
            "pool's other addresses or overflow pool, or waits. Start the node's workers, or give "
            "the addresses to another node.",
        )
    for name in seen:
        if name not in dead:
            close_alert(code=_NODE, subject=name)
    gone = DeliveryNode.objects.filter(seen_at__lt=now - _FORGET_AFTER)
    gone.exclude(name__in=IpAddress.objects.values("node")).delete()
    return dead
