"""Fetch an MTA-STS policy file over HTTPS, from strangers' servers: bounded in all directions."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from dataclasses import dataclass, field

from sending.engine.secure.mta_sts import MAX_POLICY_BYTES

POLICY_PATH = "/.well-known/mta-sts.txt"


class FetchFailed(Exception):
    """The file did not come; `is_certificate` says that the server's certificate was at fault."""

    def __init__(self, text: str, *, is_certificate: bool = False) -> None:
        super().__init__(text)
        self.is_certificate = is_certificate


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """RFC 8461 section 3.3 suggests a minute for the whole; redirects are not followed."""

    port: int = 443
    timeout_seconds: float = 10.0
    total_seconds: float = 30.0
    context: ssl.SSLContext = field(default_factory=ssl.create_default_context)


def fetch_policy_file(host: str, ip: str, settings: FetchSettings) -> bytes:
    """Return the policy file of `host` ("mta-sts.<domain>") from the checked address `ip`.

    Blocking, for a thread; over after `total_seconds` even when the server sends a byte now and
    then. Raises FetchFailed for everything else than a 200 with text/plain up to 64 KB.
    """
    try:
        with socket.create_connection((ip, settings.port), settings.timeout_seconds) as plain:
            other = plain.dup()
            watch = threading.Timer(settings.total_seconds, _cut, [other])
            watch.start()
            try:
                with settings.context.wrap_socket(plain, server_hostname=host) as secure:
                    connection = http.client.HTTPConnection(host)
                    connection.sock = secure
                    return _get(connection)
            finally:
                watch.cancel()
                watch.join()
                other.close()
    except ssl.SSLCertVerificationError as error:
        raise FetchFailed(
            f"the certificate of {host} is not good: {error.verify_message}", is_certificate=True
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = str(error) or type(error).__name__
        raise FetchFailed(f"{host} could not be read: {why}"[:300]) from error


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _get(connection: http.client.HTTPConnection) -> bytes:
    connection.request("GET", POLICY_PATH, headers={"User-Agent": "Mailwright", "Accept": "*/*"})
    response = connection.getresponse()
    if response.status != 200:
        raise FetchFailed(f"the server answered {response.status} instead of 200")
    kind = response.headers.get_content_type()
    if kind != "text/plain":
        raise FetchFailed(f"the file is {kind[:60]}, not text/plain")
    body = response.read(MAX_POLICY_BYTES + 1)
    if len(body) > MAX_POLICY_BYTES:
        raise FetchFailed("the file is larger than 64 KB")
    return body
