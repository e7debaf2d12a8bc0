"""Why a smarthost ends the connection when TLS begins: one plain handshake that listens to the end.

With TLS 1.3 a client is done before the server has looked at the client's certificate, so that its
"no" comes in the place of the next answer (RFC 8446 section 4.4.2.4) and looks like a server that
went away. Only a test of a route asks; messages wait in any case.
"""

from __future__ import annotations

import datetime as dt
import socket
import time

from cryptography import x509

from sending.engine.ports import Relay
from sending.engine.smtp.tls import relay_security

_MOST_LINES = 100
_LISTEN_SECONDS = 2.0  # an alert comes with the next packet
# OpenSSL's names of the alerts of RFC 8446 section 6.2 that speak of a client's certificate.
_ALERTS = {
    "CERTIFICATE_EXPIRED": "The server says that our client certificate has expired.",
    "UNKNOWN_CA": "The server does not know who issued our client certificate.",
    "CERTIFICATE_REVOKED": "The server says that our client certificate was revoked.",
    "CERTIFICATE_UNKNOWN": "The server does not accept our client certificate.",
    "BAD_CERTIFICATE": "The server does not accept our client certificate.",
    "UNSUPPORTED_CERTIFICATE": "The server does not take client certificates of this kind.",
    "ACCESS_DENIED": "The server knows our client certificate and does not let it in.",
    "CERTIFICATE_REQUIRED": "The server wants a client certificate, and the route has none.",
    # TLS 1.2 has no alert of its own for a certificate that is missing.
    "HANDSHAKE_FAILURE": "The server refused the handshake. It may want a client certificate, and "
    "the route has none.",
}


def why_refused(relay: Relay, ip: str, *, seconds: float, ehlo_name: str) -> str:
    """Return in words what the server has against our certificate, or lack of one; "" if nothing.

    Blocks for `seconds` at most; sends nothing but EHLO and STARTTLS.
    """
    ends = ended_at(relay.certificate)
    if ends is not None:
        return f"Our client certificate ended on {ends:%-d %B %Y}. Give the route a new one."
    deadline = time.monotonic() + seconds
    is_secure = False
    try:
        with socket.create_connection((ip, relay.port), timeout=seconds) as raw:
            if relay.tls != "implicit":
                _begin(raw, ehlo_name, deadline)
            context = relay_security(relay).context
            with context.wrap_socket(raw, server_hostname=relay.host) as secure:
                is_secure = True
                # Nothing is sent now: a close with words of ours unread takes the alert with it.
                secure.settimeout(max(min(deadline - time.monotonic(), _LISTEN_SECONDS), 0.1))
                if secure.recv(4096):
                    return ""
    except TimeoutError:
        return ""  # it waits for us: our certificate is not what it minds
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        found = _words(error, relay)
        if found or not is_secure:
            return found
    # It ended without a word just when it had seen our certificate, or that we have none.
    what = "refuse our client certificate" if relay.certificate else "want a client certificate"
    return f"The server closed the connection right after TLS, as servers do that {what}."


def why_unreachable(ip: str, port: int, *, seconds: float) -> str:
    """Return why there is no connection, in the operating system's words; "" when there is one."""
    try:
        socket.create_connection((ip, port), timeout=seconds).close()
    except TimeoutError:
        return f"No answer from port {port} within {seconds:.0f} seconds: a firewall, as a rule."
    except ConnectionRefusedError:
        return f"The connection was refused: nothing listens at port {port}."
    except OSError as error:
        return f"The connection failed: {error.strerror or error}."
    return ""


def ended_at(certificate: str) -> dt.datetime | None:
    """Return when a client certificate (PEM) has ended, or None while it holds or there is none."""
    try:
        found = x509.load_pem_x509_certificate(certificate.encode())
    except ValueError:
        return None
    ends = found.not_valid_after_utc
    return ends if ends < dt.datetime.now(dt.UTC) else None


def _begin(raw: socket.socket, ehlo_name: str, deadline: float) -> None:
    """Talk until the server waits for the handshake; raises OSError."""
    _answer(raw, deadline)
    for line in (f"EHLO {ehlo_name}", "STARTTLS"):
        raw.sendall(f"{line}\r\n".encode("ascii"))
        _answer(raw, deadline)


def _answer(raw: socket.socket, deadline: float) -> None:
    """Read one reply, byte by byte: what follows it belongs to the handshake."""
    for _ in range(_MOST_LINES):
        line = b""
        while not line.endswith(b"\n") and len(line) < 1000:
            raw.settimeout(max(deadline - time.monotonic(), 0.01))
            part = raw.recv(1)
            if not part:
                raise ConnectionAbortedError("the server closed the connection")
            line += part
        if line[3:4] != b"-":
            if not line.startswith(b"2"):
                raise ConnectionRefusedError("the server said no")
            return
    raise ConnectionAbortedError("the reply does not end")


def _words(error: Exception, relay: Relay) -> str:
    reason = str(getattr(error, "reason", None) or "")
    _, is_alert, name = reason.partition("ALERT_")
    if not is_alert or (name == "HANDSHAKE_FAILURE" and relay.certificate):
        return ""
    return _ALERTS.get(name, "")
