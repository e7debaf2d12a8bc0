"""Pages: domain errors become clear answers, whole pages or htmx parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render

from esp.kit.outage import is_outage, outage_answer
from esp.lib.errors import (
    Conflict,
    DomainError,
    LimitReached,
    NotFound,
    PermissionMissing,
)


def status_of(error: DomainError) -> int:
    """Return the HTTP status that stands for a domain error."""
    if isinstance(error, NotFound):
        return 404
    if isinstance(error, PermissionMissing):
        return 403
    if isinstance(error, Conflict):
        return 409
    if isinstance(error, LimitReached):
        return 429
    return 422


class DomainErrorMiddleware:
    """Shows a domain error that a page did not handle itself, and undoes its transaction.

    htmx gets the sentence as a toast (`components/toast.html`), a browser a whole page.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        try:
            if is_outage(error):
                return outage_answer(request, error)
            if not isinstance(error, DomainError):
                return None
            if isinstance(error, NotFound):
                raise Http404(error.message) from error
            # Before the roll-back is called for: the page asks the database who is signed in.
            return domain_error_page(request, error)
        finally:
            if transaction.get_connection().in_atomic_block:
                transaction.set_rollback(True)


def domain_error_page(request: HttpRequest, error: DomainError) -> HttpResponse:
    """Answer with the error's sentence in the form that the client can show."""
    status = status_of(error)
    context: dict[str, Any] = {"error": error, "status": status}
    if getattr(request, "htmx", False):
        response = render(request, "components/toast.html", context, status=status)
        response["HX-Retarget"] = "#toasts"
        response["HX-Reswap"] = "beforeend"
        return response
    return render(request, "error.html", context, status=status)
