"""Amazon SNS: is a message Amazon's own, and yes to a subscription.

Source: "Verifying the signatures of Amazon SNS messages" and "Parsing message formats" in the
Amazon SNS developer guide.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from anymail.exceptions import AnymailWebhookValidationFailure
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from sending.routes.http.session import BoundedSession

log = logging.getLogger(__name__)

# Only there may a call send us for a certificate or a confirmation.
_HOST = re.compile(r"sns\.[a-z]{2}(?:-[a-z]+){1,3}-\d\.amazonaws\.com(?:\.cn)?")
_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": (
        "Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type",
    ),
}  # fmt: skip
_SIGNED["UnsubscribeConfirmation"] = _SIGNED["SubscriptionConfirmation"]
_HASHES = {"1": hashes.SHA1, "2": hashes.SHA256}
_MOST_CERTIFICATES = 50
_certificates: dict[str, RSAPublicKey] = {}
_lock = threading.Lock()


def verify(message: Mapping[str, Any]) -> None:
    """Raise AnymailWebhookValidationFailure unless Amazon has signed `message`."""
    names = _SIGNED.get(str(message.get("Type")))
    algorithm = _HASHES.get(str(message.get("SignatureVersion")))
    if names is None or algorithm is None:
        raise AnymailWebhookValidationFailure("it is signed in a way that we do not know")
    signed = "".join(f"{name}\n{message[name]}\n" for name in names if message.get(name))
    key = _key_at(str(message.get("SigningCertURL", "")))
    try:
        signature = base64.b64decode(str(message.get("Signature", "")), validate=True)
        key.verify(signature, signed.encode(), padding.PKCS1v15(), algorithm())
    except (InvalidSignature, binascii.Error) as error:
        raise AnymailWebhookValidationFailure("its signature is wrong") from error


def confirm(message: Mapping[str, Any]) -> None:
    """Say yes to the subscription that `message` (verified) asks about; raises OSError."""
    fetch(_checked(str(message.get("SubscribeURL", ""))))
    log.info("subscribed to the SNS topic %s", message.get("TopicArn"))


def _checked(url: str) -> str:
    """Return a URL at Amazon SNS; raises AnymailWebhookValidationFailure for any other."""
    try:
        parts = urlsplit(url)
        is_theirs = parts.scheme == "https" and bool(_HOST.fullmatch(parts.netloc))
    except ValueError:
        is_theirs = False
    if not is_theirs:
        raise AnymailWebhookValidationFailure("it points to a host that is not Amazon SNS")
    return url


def _key_at(url: str) -> RSAPublicKey:
    """Return the key of the certificate at `url`, kept by the process."""
    _checked(url)
    with _lock:
        kept = _certificates.get(url)
    if kept is not None:
        return kept
    try:
        key = x509.load_pem_x509_certificate(fetch(url)).public_key()
    except (ValueError, OSError) as error:
        raise AnymailWebhookValidationFailure("Amazon's certificate cannot be read") from error
    if not isinstance(key, RSAPublicKey):
        raise AnymailWebhookValidationFailure("Amazon's certificate cannot be read")
    with _lock:
        if len(_certificates) >= _MOST_CERTIFICATES:
            _certificates.clear()
        _certificates[url] = key
    return key


def fetch(url: str) -> bytes:
    """Return what stands at `url`; raises OSError (requests' exceptions are)."""
    with BoundedSession(connect_seconds=3.0, total_seconds=6.0) as session:
        response = session.request("GET", url)
    if response.status_code != 200:
        raise requests.HTTPError(f"HTTP {response.status_code}")
    return response.content
