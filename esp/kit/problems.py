"""The body of an RFC 9457 problem, for whoever answers a program."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any


def problem_body(
    status: int, code: str, detail: str, errors: list[dict[str, str]] | None = None
) -> dict[str, Any]:
    """Return RFC 9457 problem details with our stable `code` and the offending fields."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }
    if errors:
        body["errors"] = errors
    return body
