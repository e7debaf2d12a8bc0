"""REST framework's view of the actor that the middleware found."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from tenants.directory.actor import Actor


class ActorAuthentication(BaseAuthentication):
    """`Authorization: Bearer mw_…`; a header that does not hold a live key is refused."""

    def authenticate(self, request: Request) -> tuple[AnonymousUser, Actor] | None:
        actor: Actor | None = getattr(request._request, "actor", None)  # noqa: SLF001
        if actor is not None:
            return AnonymousUser(), actor
        if request.headers.get("Authorization"):
            raise AuthenticationFailed("The API key is not known, or was revoked.")
        return None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="mailwright"'
