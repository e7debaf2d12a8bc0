"""The deliverability app's tables, gathered for Django from its rooms."""

from __future__ import annotations

from deliverability.alerts.models import Alert
from deliverability.domains.models import DkimKey, DnsCheck, Domain, Sender
from deliverability.holds.models import SendingHold
from deliverability.ips.models import DeliveryNode, IpAddress, IpCap, IpPool, PoolRule
from deliverability.tls.models import MtaStsPolicy, TlsRequirement, TlsResult

__all__ = [
    "Alert",
    "DeliveryNode",
    "DkimKey",
    "DnsCheck",
    "Domain",
    "IpAddress",
    "IpCap",
    "IpPool",
    "MtaStsPolicy",
    "PoolRule",
    "Sender",
    "SendingHold",
    "TlsRequirement",
    "TlsResult",
]
