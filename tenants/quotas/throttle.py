"""The rate limit of the API, as REST framework asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from esp.lib.errors import LimitReached
from tenants.quotas.services import check_rate, exhausted

if TYPE_CHECKING:  # REST framework's views import the settings' throttles: this file
    from rest_framework.views import APIView


class TenantThrottle(BaseThrottle):
    """Counts by tenant; a view names its bucket in `rate_kind` ("api" where it does not)."""

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Let the request pass, or raise LimitReached; the headers' figures go to the request."""
        actor: Any = request.auth
        if actor is None:
            return True
        kind: str = getattr(view, "rate_kind", "api")
        plain = request._request  # noqa: SLF001 (what the middleware sees)
        try:
            plain.rate_answer = check_rate(actor.tenant_id, kind)  # type: ignore[attr-defined]
        except LimitReached as error:
            plain.rate_answer = exhausted(kind, error.retry_after)  # type: ignore[attr-defined]
            raise
        return True
