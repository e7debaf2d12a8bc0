"""The API's habits: RFC 9457 problem details, strict serializers, the base of its views."""

from __future__ import annotations

from functools import cache
from http import HTTPStatus
from typing import Any, ClassVar

from django.db import transaction
from django.http import Http404
from rest_framework import exceptions, serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from esp.kit.pages import status_of
from esp.kit.problems import problem_body
from esp.lib.errors import DomainError, LimitReached


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses fields that it does not know: a typing error must not be silently ignored."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            unknown = sorted(set(data) - set(self.fields))
            if unknown:
                raise serializers.ValidationError(
                    {name: ["This field is not known here."] for name in unknown}, code="unknown"
                )
        return super().to_internal_value(data)


@cache
def _reader(kind: type[serializers.Serializer[Any]]) -> serializers.Serializer[Any]:
    return kind()


def validated(kind: type[serializers.Serializer[Any]], data: Any) -> dict[str, Any]:
    """Return `data` as `kind` understands it; raises ValidationError.

    One instance of a kind reads all requests, which changes nothing in it: a new one copies every
    field, and that takes as long as reading a request.
    """
    if data is None:
        text = exceptions.ErrorDetail("No data provided", code="null")
        raise serializers.ValidationError({"non_field_errors": [text]})
    values: dict[str, Any] = _reader(kind).run_validation(data)
    return values


_CODES: dict[type[exceptions.APIException], str] = {
    exceptions.ParseError: "malformed-json",
    exceptions.UnsupportedMediaType: "unsupported-media-type",
    exceptions.NotAuthenticated: "not-authenticated",
    exceptions.AuthenticationFailed: "key-refused",
    exceptions.PermissionDenied: "permission-missing",
    exceptions.MethodNotAllowed: "method-not-allowed",
    exceptions.NotFound: "not-found",
    exceptions.NotAcceptable: "not-acceptable",
    exceptions.Throttled: "rate-limited",
}


def _below(path: str, key: Any) -> str:
    if key == "non_field_errors":
        return path
    if isinstance(key, int):  # an entry of a list
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else str(key)


def _flatten(detail: Any, path: str = "") -> list[dict[str, str]]:
    if isinstance(detail, dict):
        found = []
        for key, value in detail.items():
            name = _below(path, key)
            found += _flatten(value, name)
        return found
    if isinstance(detail, list):
        found = []
        for index, value in enumerate(detail):
            deeper = isinstance(value, (dict, list))
            found += _flatten(value, f"{path}[{index}]" if deeper else path)
        return found
    code = getattr(detail, "code", "invalid") or "invalid"
    return [{"field": path, "code": str(code), "detail": str(detail)}]


def problem_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Turn every error of an API view into problem details, and undo its transaction."""
    if transaction.get_connection().in_atomic_block:
        transaction.set_rollback(True)
    headers: dict[str, str] = {}
    if isinstance(error, DomainError):
        status = status_of(error)
        fields = None
        if error.field:
            fields = [{"field": error.field, "code": error.code, "detail": error.message}]
        if isinstance(error, LimitReached):
            headers["Retry-After"] = str(max(1, round(error.retry_after)))
        body = problem_body(status, error.code, error.message, fields)
    elif isinstance(error, Http404):
        status, body = 404, problem_body(404, "not-found", "There is nothing at this address.")
    elif isinstance(error, exceptions.ValidationError):
        status = 422
        fields = _flatten(error.detail)
        first = fields[0] if fields else {"field": "", "detail": "The request is not valid."}
        lead = f"{first['field']}: " if first["field"] else ""
        body = problem_body(422, "invalid", lead + first["detail"], fields)
    elif isinstance(error, exceptions.APIException):
        status = error.status_code
        code = next((c for kind, c in _CODES.items() if isinstance(error, kind)), "error")
        body = problem_body(status, code, str(error.detail))
        wait: float | None = getattr(error, "wait", None)  # of Throttled only
        if wait is not None:
            headers["Retry-After"] = str(max(1, round(wait)))
        if isinstance(error, exceptions.NotAuthenticated | exceptions.AuthenticationFailed):
            status = body["status"] = 401
            body["title"] = HTTPStatus(401).phrase
            headers["WWW-Authenticate"] = 'Bearer realm="mailwright"'
    else:
        return None
    return Response(body, status=status, headers=headers, content_type="application/problem+json")


class ApiView(APIView):
    """The base of the API's views: `scopes` by method, an actor in `request.auth`."""

    scopes: ClassVar[dict[str, str]] = {}


class FieldErrorOut(serializers.Serializer[Any]):
    """What is wrong with one field."""

    field = serializers.CharField()
    code = serializers.CharField()
    detail = serializers.CharField()


class ProblemOut(serializers.Serializer[Any]):
    """Problem details (RFC 9457). `code` is stable: programs may rely on it."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField()
    detail = serializers.CharField()
    errors = FieldErrorOut(many=True, required=False)  # type: ignore[assignment]


def problems(*statuses: int) -> dict[tuple[int, str], type[ProblemOut]]:
    """Return the refusals of an operation for its `extend_schema(responses=…)`."""
    return {(status, "application/problem+json"): ProblemOut for status in statuses}
