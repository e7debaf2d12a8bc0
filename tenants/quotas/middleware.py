"""Tells API clients how much of their rate is left."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from tenants.quotas.services import RateAnswer


class RateHeadersMiddleware:
    """Adds `RateLimit-Limit`, `-Remaining` and `-Reset` where the throttle has counted.

    The names of draft-ietf-httpapi-ratelimit-headers up to -07, which clients read today.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        answer: RateAnswer | None = getattr(request, "rate_answer", None)
        if answer is not None:
            response["RateLimit-Limit"] = str(answer.limit)
            response["RateLimit-Remaining"] = str(answer.remaining)
            response["RateLimit-Reset"] = str(answer.reset_seconds)
        return response
