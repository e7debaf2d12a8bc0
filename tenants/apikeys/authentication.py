"""REST framework's view of the actor that the middleware found."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, Throttled
from rest_framework.request import Request

from esp.kit.client import client_ip
from esp.kit.valkey import take
from tenants.directory.actor import Actor

# A program with a wrong key must not keep the database busy: so many refusals, then one a second.
_REFUSALS = 60


class ActorAuthentication(BaseAuthentication):
    """`Authorization: Bearer mw_…`; a header that does not hold a live key is refused."""

    def authenticate(self, request: Request) -> tuple[AnonymousUser, Actor] | None:
        actor: Actor | None = getattr(request._request, "actor", None)  # noqa: SLF001
        if actor is not None:
            return AnonymousUser(), actor
        if request.headers.get("Authorization"):
            # The tenant is not known, so the address is counted; live keys are never held up.
            address = client_ip(request._request)  # noqa: SLF001 (the plain request)
            answer = take(f"badkey:{address}", rate=1, burst=_REFUSALS)
            if not answer.allowed:
                raise Throttled(
                    wait=answer.retry_after, detail="Too many requests without a valid API key."
                )
            raise AuthenticationFailed("The API key is not known, or was revoked.")
        return None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="mailwright"'
