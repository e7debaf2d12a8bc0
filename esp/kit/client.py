"""The address of the client behind a request."""

from __future__ import annotations

import ipaddress

from django.conf import settings
from django.http import HttpRequest


def client_ip(request: HttpRequest) -> str:
    """Return the client's address.

    Behind `PROXY_HOPS` proxies it is the entry that the outermost of them added to
    X-Forwarded-For, counted from the right: what stands left of it is the client's own claim.
    """
    direct = str(request.META.get("REMOTE_ADDR") or "0.0.0.0")  # noqa: S104 (no socket is bound)
    hops = int(settings.PROXY_HOPS)
    if hops < 1:
        return direct
    claimed = [part.strip() for part in request.headers.get("X-Forwarded-For", "").split(",")]
    candidate = claimed[-hops] if len(claimed) >= hops else ""
    try:
        return str(ipaddress.ip_address(candidate))
    except ValueError:
        return direct
