"""Answers while the database is away, read-only or full: 503 with Retry-After, never a promise."""

from __future__ import annotations

import json
import logging

from django.db import DatabaseError, InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from esp.kit.problems import problem_body

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 5
# SQLSTATE 25006: the server (a standby, or one that an operator has locked) takes no writes.
_READ_ONLY = "25006"


def is_outage(error: BaseException) -> bool:
    """Tell whether the database could not be used at all; a fault of ours is none.

    OperationalError covers lost connections, shutdown, recovery and a full disk (class 53).
    """
    if isinstance(error, (OperationalError, InterfaceError)):
        return True
    cause = error.__cause__
    return isinstance(error, DatabaseError) and getattr(cause, "sqlstate", None) == _READ_ONLY


def outage_answer(request: HttpRequest, error: BaseException) -> HttpResponse:
    """Answer without touching the database: problem details for programs, a plain page else."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    log.error("%s %s: the database is not usable: %s", request.method, request.path, reason)
    text = "The database cannot be used just now. Nothing was accepted; try again in a moment."
    if request.path.startswith("/api/"):
        response = HttpResponse(
            json.dumps(problem_body(503, "database-away", text)),
            status=503,
            content_type="application/problem+json",
        )
    else:
        context = {"code": "503", "title": "Back in a moment", "text": text}
        response = HttpResponse(
            render_to_string("components/plain_error.html", context), status=503
        )
    response["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response
