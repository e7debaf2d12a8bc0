"""Decorators that pages stand behind. Each page says what it needs; forgetting shuts it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render

from tenants.directory.actor import Actor

View = Callable[..., HttpResponse]


class MemberRequest(HttpRequest):
    """A request behind `member_page`: the actor is known."""

    actor: Actor


def member_page(*, needs: str | None) -> Callable[[View], View]:
    """Let a signed-in member with the permission `needs` in (None: every member).

    The permission stands on the view as `needs`, for the permission matrix of the tests.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not request.user.is_authenticated:
                return redirect_to_login(request.get_full_path())
            actor: Actor | None = getattr(request, "actor", None)
            if actor is None:
                return render(request, "tenants/directory/no_workspace.html", status=403)
            if needs is not None:
                actor.require(needs)
            return view(cast(MemberRequest, request), *args, **kwargs)

        guarded.needs = needs or "member"  # type: ignore[attr-defined]
        return guarded

    return decorate


def operator_page(view: View) -> View:
    """Let operators in; for everyone else the page does not exist."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        if not request.user.is_operator:
            raise Http404
        return view(request, *args, **kwargs)

    guarded.needs = "operator"  # type: ignore[attr-defined]
    return guarded


def public_page(view: View) -> View:
    """Mark a page that anyone may open (sign-in, tracking, hosted forms)."""
    view.needs = "public"  # type: ignore[attr-defined]
    return view
