"""What REST framework's settings name: how JSON is read and written, who may call a view.

Nothing here may import `rest_framework.views`: that module reads the settings while it is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

import orjson
from rest_framework import exceptions
from rest_framework.parsers import BaseParser
from rest_framework.permissions import BasePermission
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request


class ORJSONParser(BaseParser):
    """Reads JSON that anyone may have sent: orjson refuses what the standard library stumbles over.

    Nesting is bounded (the standard library ends in a RecursionError), lone surrogates, NaN and
    malformed UTF-8 are errors here and not later in the database.
    """

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        try:
            return orjson.loads(stream.read())
        except orjson.JSONDecodeError as error:
            raise exceptions.ParseError(f"This is not JSON: {error}") from error


class ORJSONRenderer(BaseRenderer):
    """JSON by orjson; problem details keep their own media type."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None
    ) -> bytes:
        if data is None:
            return b""
        return orjson.dumps(data, default=str, option=orjson.OPT_NON_STR_KEYS)


class HasScopes(BasePermission):
    """Each view says `scopes = {"GET": "messages:read", …}`; a method without an entry is shut."""

    def has_permission(self, request: Request, view: Any) -> bool:
        actor: Any = request.auth
        if actor is None:
            raise exceptions.NotAuthenticated()
        needed = getattr(view, "scopes", {}).get(request.method)
        if needed is None:
            raise exceptions.MethodNotAllowed(request.method or "")
        actor.require(needed)
        return True
