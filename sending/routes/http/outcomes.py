"""What a provider's answer to one call means: anymail's statuses and errors become Outcomes.

Phases as in a session over SMTP: "connect" and "tls" before the provider was reached, "auth" for a
key or account that may not send, "greeting" for "not now", "data" for this message refused, "body"
once it may have been taken. Before "data" nothing was taken, so that another route may try.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Any

import requests
from anymail.exceptions import (
    AnymailAPIError,
    AnymailError,
    AnymailRecipientsRefused,
    AnymailUnsupportedFeature,
)

from sending.engine.classify import UNKNOWN, classify
from sending.engine.ports import Kind, Outcome, Phase

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")

# Amazon's names for "you may not" and "not now", which come with status 400 like real refusals.
_ACCOUNT = {
    "AccountSuspendedException", "SendingPausedException", "MailFromDomainNotVerifiedException",
    "NotFoundException", "AccessDeniedException", "UnrecognizedClientException",
    "InvalidSignatureException", "SignatureDoesNotMatch", "InvalidClientTokenId",
    "ExpiredTokenException", "IncompleteSignature", "MissingAuthenticationToken",
}  # fmt: skip
_LATER = {"TooManyRequestsException", "LimitExceededException", "ThrottlingException"}

# A gateway that gave up waiting does not know whether the server behind it took the message.
_UNSURE = {502, 504, 520, 522, 524}


@dataclass(frozen=True, slots=True)
class Answer:
    """A provider's refusal: HTTP status, its own code ("" without), words, seconds to wait."""

    status: int | None
    code: str
    text: str
    retry_after: float | None = None


def clean(text: str, secrets: tuple[str, ...] = ()) -> str:
    """Return `text` on one line, short, with every secret taken out."""
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, "•••")
    return _CONTROL.sub(" ", " ".join(text.split()))[:500]


def outcome_of_status(status: str, *, provider: str, text: str, at: dt.datetime) -> Outcome:
    """Return what anymail's status of the recipient means."""
    if status in ("sent", "queued"):
        return _outcome("delivered", "body", "none/delivered", text, at)
    if status == "invalid":
        return _outcome("bounced", "data", "hard/invalid-recipient", text, at)
    if status == "rejected":
        # On the provider's own list, of people who bounced or complained there.
        return _outcome("bounced", "data", "block/suppressed", text, at)
    if status == "failed":
        return _outcome("deferred", "greeting", "soft/server-error", text, at)
    return _outcome("deferred", "body", "soft/protocol-error", text, at, is_ambiguous=True)


def outcome_of_error(error: Exception, *, at: dt.datetime, secrets: tuple[str, ...]) -> Outcome:
    """Return what an exception of the call means; never raises."""
    if isinstance(error, AnymailUnsupportedFeature):
        text = f"The provider cannot carry this message: {_first(error, secrets)}"
        return _outcome("bounced", "data", "block/content", text, at)
    if isinstance(error, AnymailRecipientsRefused):
        answer = answer_of(error, secrets)
        return _outcome("bounced", "data", "hard/invalid-recipient", answer.text, at, answer=answer)
    if isinstance(error, AnymailAPIError):
        answer = answer_of(error, secrets)
        if answer.status is not None:
            return outcome_of_answer(answer, at=at)
        return _of_network(error, at, secrets)
    if isinstance(error, AnymailError | ValueError):
        text = f"The message cannot be handed to the provider: {_first(error, secrets)}"
        return _outcome("bounced", "data", "block/content", text, at)
    return _of_network(error, at, secrets)


def outcome_of_answer(answer: Answer, *, at: dt.datetime) -> Outcome:
    """Return what a refusal with an HTTP status means."""
    status = answer.status or 0
    shown = f"HTTP {status}: {answer.text}" if answer.text else f"HTTP {status}"
    if 200 <= status < 300:
        text = f"The provider's answer was not understood ({shown})"
        return _outcome(
            "deferred", "body", "soft/protocol-error", text, at, answer=answer, is_ambiguous=True
        )
    if status == 429 or answer.code in _LATER:
        return _outcome("deferred", "greeting", "soft/throttled", shown, at, answer=answer)
    if status in _UNSURE:
        return _outcome(
            "deferred", "body", "soft/network-error", shown, at, answer=answer, is_ambiguous=True
        )
    if status >= 500:
        return _outcome("deferred", "greeting", "soft/server-error", shown, at, answer=answer)
    # A redirect or a wrong path is a mistake in the route's settings, as a wrong key is.
    if status < 400 or status in (401, 402, 403, 404, 405, 407) or answer.code in _ACCOUNT:
        return _outcome("deferred", "auth", "block/auth-failure", shown, at, answer=answer)
    if status == 408:
        return _outcome("deferred", "greeting", "soft/network-error", shown, at, answer=answer)
    return _outcome(
        "bounced", "data", _class_of_refusal(status, answer.text), shown, at, answer=answer
    )


def _class_of_refusal(status: int, text: str) -> str:
    if status == 413:
        return "block/content"
    found = classify(code=None, enhanced=None, text=text)
    # "Invalid" in an API's answer speaks of any field: it must not suppress an address.
    return "block/policy" if found == UNKNOWN or found.startswith("hard/") else found


def _of_network(error: Exception, at: dt.datetime, secrets: tuple[str, ...]) -> Outcome:
    """Tell errors before the request was out from those after: only these are ambiguous."""
    kinds = {found.__name__ for part in _chain(error) for found in type(part).__mro__}
    cause = clean(str(_chain(error)[-1]), secrets)
    if kinds & {"SSLError", "CertificateError"}:
        return _outcome("deferred", "tls", "soft/tls-failure", f"TLS failed: {cause}", at)
    if kinds & {
        "ConnectTimeout", "ConnectTimeoutError", "NewConnectionError", "NameResolutionError",
        "ProxyError", "ProxyConnectionError", "EndpointConnectionError", "InvalidURL",
        "NoCredentialsError", "PartialCredentialsError",
    }:  # fmt: skip
        text = f"The provider was not reached: {cause}"
        return _outcome("deferred", "connect", "soft/network-error", text, at)
    text = f"The connection broke before the provider answered: {cause}"
    return _outcome("deferred", "body", "soft/network-error", text, at, is_ambiguous=True)


def _chain(error: BaseException) -> list[BaseException]:
    """Return `error` and what caused it, also as `requests` keeps it: in the arguments."""
    found: list[BaseException] = []
    part: BaseException | None = error
    while part is not None and part not in found and len(found) < 8:
        found.append(part)
        inner = next((arg for arg in part.args if isinstance(arg, BaseException)), None)
        reason = getattr(part, "reason", None)
        part = (reason if isinstance(reason, BaseException) else None) or inner or part.__cause__
    return found


def answer_of(error: AnymailError, secrets: tuple[str, ...]) -> Answer:
    """Read the provider's answer out of anymail's error."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):  # boto3
        about = response.get("ResponseMetadata", {})
        found = response.get("Error", {})
        code = str(found.get("Code", ""))
        text = f"{code}: {found.get('Message') or response.get('message') or ''}"
        return Answer(about.get("HTTPStatusCode"), code, clean(text, secrets))
    if not isinstance(response, requests.Response):
        return Answer(None, "", _first(error, secrets))
    text = _words(response) or (response.reason or "")
    wait = response.headers.get("Retry-After", "")
    seconds = float(wait) if wait.isdigit() and len(wait) < 6 else None
    return Answer(response.status_code, "", clean(text, secrets), seconds)


def _words(response: requests.Response) -> str:
    """Return what the provider says: the messages inside its JSON, else the start of the body."""
    try:
        data = response.json()
    except ValueError:
        return response.text[:500]
    return "; ".join(_messages(data))[:500]


def _messages(data: Any) -> list[str]:
    """Collect the texts under the keys that providers use for them, in any depth."""
    if isinstance(data, str):
        return [data]
    if isinstance(data, list):
        return [text for entry in data[:5] for text in _messages(entry)]
    if not isinstance(data, dict):
        return []
    keys = ("message", "Message", "ErrorMessage", "description", "error", "errors", "Errors",
            "Messages", "data")  # fmt: skip
    return [text for key in keys if key in data for text in _messages(data[key])]


def _first(error: Exception, secrets: tuple[str, ...]) -> str:
    return clean(str(error.args[0]) if error.args else type(error).__name__, secrets)


def _outcome(
    kind: Kind,
    phase: Phase,
    classification: str,
    text: str,
    at: dt.datetime,
    *,
    answer: Answer | None = None,
    is_ambiguous: bool = False,
) -> Outcome:
    return Outcome(
        kind=kind,
        phase=phase,
        classification=classification,
        text=text[:1000],
        at=at,
        is_ambiguous=is_ambiguous,
        retry_after_seconds=answer.retry_after if answer is not None else None,
    )
