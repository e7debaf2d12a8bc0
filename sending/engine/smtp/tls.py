"""What TLS a session demands, and the contexts for it."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from sending.engine.ports import Relay

Mode = Literal["implicit", "starttls", "opportunistic", "never"]


@dataclass(frozen=True, slots=True)
class Security:
    """`mode` as in `ports.Relay.tls`; `context` decides what certificate is good enough.

    `check` looks at the finished handshake once more and returns what is wrong, or ""; `note` is
    told how STARTTLS went: None when it succeeded, else the error that ended it.
    """

    mode: Mode
    context: ssl.SSLContext
    check: Callable[[ssl.SSLObject], str] | None = None
    note: Callable[[Exception | None], None] = lambda _: None


class StartTlsMissing(Exception):
    """The server does not offer STARTTLS, or declined it."""


class ChainRefused(Exception):
    """The server's certificates do not meet its TLSA records."""


def opportunistic_context() -> ssl.SSLContext:
    """Return a TLS context that takes any certificate (RFC 7435): better than plain text.

    Verified TLS (MTA-STS, DANE, relays) brings its own context.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A server could keep us busy with one handshake after the other (CVE-2011-1473 turned around).
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


@lru_cache(maxsize=1)
def verifying_context() -> ssl.SSLContext:
    """Return a context that wants a certificate for the host's name from a known authority."""
    return _relay_context(True, "", "")


def relay_security(relay: Relay) -> Security:
    """Return what TLS `relay` demands; raises ValueError for an unusable client certificate."""
    return Security(relay.tls, _relay_context(relay.verify, relay.certificate, relay.key))


@lru_cache(maxsize=256)
def _relay_context(verify: bool, certificate: str, key: str) -> ssl.SSLContext:
    """Reading the system's trust store takes some 20 ms, so contexts are kept."""
    if verify:
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
    else:
        context = opportunistic_context()
    if certificate:
        _load_client_certificate(context, certificate, key)
    return context


def _load_client_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Give `context` a certificate from PEM texts; Python's ssl takes files only."""
    handle, path = tempfile.mkstemp(prefix="mailwright-", suffix=".pem")  # readable by us alone
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(certificate.rstrip() + "\n" + key.strip() + "\n")
        # A key with a password would ask for it on the terminal and hang the worker.
        context.load_cert_chain(path, password=lambda: "")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise ValueError(f"the client certificate or its key cannot be used: {error}") from None
    finally:
        os.unlink(path)
