"""Reads of API keys."""

from __future__ import annotations

from tenants.apikeys.models import ApiKey


def api_keys() -> list[ApiKey]:
    """Return the keys of the tenant in scope, live ones first, then the newest."""
    rows = ApiKey.objects.select_related("created_by").order_by("-created_at")
    return sorted(rows, key=lambda key: key.revoked_at is not None)
