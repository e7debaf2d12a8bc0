"""Caps by hand: how many messages an address may send to a site on a day."""

from __future__ import annotations

import datetime as dt
import re

from django.utils import timezone

from deliverability.ips.models import IpAddress, IpCap
from deliverability.ips.recording import record_change, require_operator
from esp.lib.errors import InvalidInput, NotFound
from tenants.accounts.models import User

MAX_CAP = 2_000_000_000
_SITE = re.compile(r"[a-z0-9][a-z0-9._,:-]{0,59}")


def set_cap(*, operator: User, row: IpAddress, site: str, on: dt.date, messages: int) -> IpCap:
    """Cap what `row` sends to `site` on a day (UTC); site "" is each one without a cap of its own.

    Raises InvalidInput.
    """
    require_operator(operator)
    site = site.strip().lower()
    if site and not _SITE.fullmatch(site):
        raise InvalidInput("A site is named as on the lanes page, such as google.", field="site")
    if not 0 <= messages <= MAX_CAP:
        raise InvalidInput("A cap is 0 or more messages a day.", field="messages")
    if on < timezone.now().astimezone(dt.UTC).date():
        raise InvalidInput("This day is over.", field="on")
    cap, _ = IpCap.objects.update_or_create(
        ip=row, site=site, on=on, defaults={"messages": messages}
    )
    record_change(
        operator, "ips.set_cap", row.address, site=site, on=on.isoformat(), messages=messages
    )
    return cap


def clear_cap(*, operator: User, row: IpAddress, cap_id: int) -> None:
    """Take a cap of `row` away. Raises NotFound."""
    require_operator(operator)
    cap = IpCap.objects.filter(ip=row, pk=cap_id).first()
    if cap is None:
        raise NotFound("There is no such cap.")
    cap.delete()
    record_change(operator, "ips.clear_cap", row.address, site=cap.site, on=cap.on.isoformat())
