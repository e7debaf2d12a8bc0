"""The REST API by room, its document, and the answer for addresses that do not exist."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern, URLResolver, include, path, re_path
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.views import SpectacularAPIView

from esp.kit.problems import problem_body
from tenants.directory.gate import public_page


class KeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the document describes API keys; the package finds the class by itself."""

    target_class = "tenants.apikeys.authentication.ActorAuthentication"
    name = "ApiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "An API key: `mw_…`."}


@csrf_exempt
@public_page
def not_found(request: HttpRequest) -> HttpResponse:
    """Answer as the API does where there is nothing."""
    body = problem_body(404, "not-found", "There is nothing at this address.")
    return JsonResponse(body, status=404, content_type="application/problem+json")


# The document holds nothing of any tenant's: everyone may read it.
schema = SpectacularAPIView.as_view(authentication_classes=[], permission_classes=[])

urlpatterns: list[URLPattern | URLResolver] = [
    path("schema", public_page(schema), name="api-schema"),
    path("", include("sending.messages.api.urls")),
    path("", include("sending.audience.api.urls")),
    path("", include("deliverability.domains.api.urls")),
    re_path("", not_found),
]
