"""The deliverability app's tables, gathered for Django from its rooms."""

from __future__ import annotations

from deliverability.domains.models import DkimKey, DnsCheck, Domain, Sender
from deliverability.ips.models import IpAddress, IpPool, PoolRule

__all__ = ["DkimKey", "DnsCheck", "Domain", "IpAddress", "IpPool", "PoolRule", "Sender"]
