"""Who acts in this request, for which tenant: one transaction, one scope, for pages and API alike.

Pages: the signed-in person's workspace (kept in the session). API: the key in `Authorization`.
Public pages (sign-in, tracking, hosted forms) run without an actor and open scopes themselves.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.http import HttpRequest, HttpResponse

from esp.kit.client import client_ip
from esp.kit.outage import is_outage, outage_answer
from tenants.apikeys.services import KeyText, actor_for_key, read_key
from tenants.audit.services import coming_from
from tenants.directory.actor import Actor
from tenants.directory.selectors import actor_for_user
from tenants.scoping.context import identify_user, scope

WORKSPACE_SESSION_KEY = "workspace"
# Served without a transaction: they must answer even while the database does not.
_PLAIN_PATHS = ("/static/", "/healthz")


@contextmanager
def request_role() -> Iterator[None]:
    """Put on the web's database role where the process connects with another one (tests)."""
    role = settings.TENANCY_REQUEST_ROLE
    if not role:
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute(f'SET LOCAL ROLE "{role}"')
    try:
        yield
    finally:
        if not connection.needs_rollback:
            with connection.cursor() as cursor:
                cursor.execute("RESET ROLE")


class ActorMiddleware:
    """Opens the request's transaction, finds the actor, sets the scope."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.actor = None  # type: ignore[attr-defined]
        if request.path.startswith(_PLAIN_PATHS):
            return self.get_response(request)
        answer = self._answer_program if request.path.startswith("/api/") else self._answer_person
        try:
            with coming_from(client_ip(request)):
                return answer(request)
        except (DatabaseError, InterfaceError) as error:
            # Opening or committing failed: whatever the view has promised was not kept.
            if not is_outage(error):
                raise
            return outage_answer(request, error)

    def _answer_program(self, request: HttpRequest) -> HttpResponse:
        """Answer in the scope that the key's text names, once the key has shown to be live."""
        key = self._key_in(request)
        if key is not None:
            with scope(key.tenant_id), request_role():
                actor = actor_for_key(key)
                if actor is not None:
                    self._set_actor(request, actor)
                    return self.get_response(request)
        with transaction.atomic(), request_role():
            return self.get_response(request)

    def _answer_person(self, request: HttpRequest) -> HttpResponse:
        with transaction.atomic(), request_role():
            actor = self._find_actor(request)
            if actor is None:
                return self.get_response(request)
            self._set_actor(request, actor)
            with scope(actor.tenant_id):
                return self.get_response(request)

    @staticmethod
    def _set_actor(request: HttpRequest, actor: Actor) -> None:
        request.actor = replace(actor, ip_address=client_ip(request))  # type: ignore[attr-defined]

    @staticmethod
    def _key_in(request: HttpRequest) -> KeyText | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return read_key(token.strip()) if scheme.lower() == "bearer" else None

    def _find_actor(self, request: HttpRequest) -> Actor | None:
        if not request.user.is_authenticated:
            return None
        identify_user(request.user.pk)
        return actor_for_user(request.user, preferred=self._preferred(request))

    @staticmethod
    def _preferred(request: HttpRequest) -> uuid.UUID | None:
        try:
            return uuid.UUID(request.session.get(WORKSPACE_SESSION_KEY, ""))
        except ValueError:
            return None
