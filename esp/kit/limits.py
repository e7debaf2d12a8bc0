"""Requests that are too large are refused before anything reads them."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse


class RequestLimitMiddleware:
    """Answers 413 to a declared length over the limit of its part of the site."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        limit = self._limit_for(request.path)
        try:
            length = int(request.META.get("CONTENT_LENGTH") or 0)
        except ValueError:
            length = limit + 1
        if length <= limit:
            return self.get_response(request)
        megabytes = max(1, limit // (1024 * 1024))
        text = f"The request is larger than the {megabytes} MB allowed here."
        if request.path.startswith("/api/"):
            body = {
                "type": "about:blank",
                "title": "Content Too Large",
                "status": 413,
                "code": "too-large",
                "detail": text,
            }
            return JsonResponse(body, status=413, content_type="application/problem+json")
        return HttpResponse(text, status=413, content_type="text/plain; charset=utf-8")

    @staticmethod
    def _limit_for(path: str) -> int:
        if path.startswith("/api/"):
            return int(settings.API_MAX_BYTES)
        if path.startswith("/audience/imports/"):
            return int(settings.IMPORT_MAX_BYTES)
        return 2 * int(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
