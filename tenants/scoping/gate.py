"""Decorators that pages stand behind. Each page says what it needs; forgetting shuts it.

They stand in the lowest room because every room's pages use them; of the actor they know only that
it can be asked for a permission (`directory.actor.Actor`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol, TypeVar

from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render

View = Callable[..., HttpResponseBase]
_V = TypeVar("_V", bound=Callable[..., HttpResponseBase])


class Requiring(Protocol):
    """What the gate needs of an actor."""

    def require(self, permission: str) -> None: ...


def _sign_in_first(request: HttpRequest) -> HttpResponse:
    """Send a visitor to the sign-in page; an htmx part makes the whole page go there."""
    if not getattr(request, "htmx", False):
        return redirect_to_login(request.get_full_path())
    answer = HttpResponse(status=204)
    answer["HX-Refresh"] = "true"
    return answer


def member_page(*, needs: str | None) -> Callable[[View], View]:
    """Let a signed-in member with the permission `needs` in (None: every member).

    The permission stands on the view as `needs`, for the permission matrix of the tests.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not request.user.is_authenticated:
                return _sign_in_first(request)
            actor: Requiring | None = getattr(request, "actor", None)
            if actor is None:
                if getattr(request.user, "is_operator", False) and request.path == "/":
                    return redirect("operator-tenants")
                return render(request, "tenants/directory/no_workspace.html", status=403)
            if needs is not None:
                actor.require(needs)
            return view(request, *args, **kwargs)

        guarded.needs = needs or "member"  # type: ignore[attr-defined]
        return guarded

    return decorate


def person_page(view: View) -> View:
    """Let every signed-in person in, also one who belongs to no workspace."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return _sign_in_first(request)
        return view(request, *args, **kwargs)

    guarded.needs = "person"  # type: ignore[attr-defined]
    return guarded


def operator_page(view: View) -> View:
    """Let operators in; for everyone else, visitors too, the page does not exist."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not getattr(request.user, "is_operator", False):
            raise Http404
        return view(request, *args, **kwargs)

    guarded.needs = "operator"  # type: ignore[attr-defined]
    return guarded


def public_page(view: _V) -> _V:
    """Mark a page that anyone may open (sign-in, tracking, hosted forms)."""
    view.needs = "public"  # type: ignore[attr-defined]
    return view
