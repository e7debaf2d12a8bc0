"""Fetching the URLs that mails contain: HTTP/1.1 over sockets, and only ever on loopback.

A host name is looked up in the simulated zones, never in the real DNS; an address off loopback is
refused before any socket is opened, and redirects are not followed.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from esp.simulator.zones import ZoneStore

TIMEOUT_SECONDS = 15.0
MAX_BODY = 2 * 1024 * 1024


class NotLoopback(Exception):
    """The URL leads out of the simulated internet (or nowhere), so nobody fetches it."""


class FetchFailed(Exception):
    """The server did not answer like an HTTP server."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The status of the answer and, for a redirect, where it points."""

    status: int
    location: str = ""

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 400


class Fetcher:
    """Fetches with a bound on how many requests are open at a time."""

    def __init__(self, zones: ZoneStore, concurrency: int = 8) -> None:
        self._zones = zones
        self._slots = asyncio.Semaphore(concurrency)
        # Simulated hosts have certificates of their own making.
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE

    def address_of(self, url: str) -> tuple[str, int]:
        """Return the loopback address and port that a URL leads to. Raises NotLoopback."""
        try:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as error:
            raise NotLoopback(url) from error
        host = (parts.hostname or "").lower()
        if parts.scheme not in ("http", "https") or not host:
            raise NotLoopback(url)
        for address in self._addresses(host):
            if ip_address(address).is_loopback:
                return address, port
        raise NotLoopback(url)

    def _addresses(self, host: str) -> list[str]:
        if host == "localhost" or host.endswith(".localhost"):
            return ["127.0.0.1"]
        try:
            return [str(ip_address(host))]
        except ValueError:
            return self._zones.addresses(host)

    async def fetch(
        self, url: str, *, agent: str, method: str = "GET", form: bytes | None = None
    ) -> Fetched:
        """Send one request and read the whole answer. Raises NotLoopback or FetchFailed."""
        address, port = self.address_of(url)
        parts = urlsplit(url)
        tls = self._tls if parts.scheme == "https" else None
        request = _request(parts, agent=agent, method=method, form=form)
        async with self._slots:
            try:
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    return await _exchange(address, port, tls, request)
            except (OSError, ValueError, asyncio.IncompleteReadError) as error:
                raise FetchFailed(str(error) or type(error).__name__) from error


def _request(parts: SplitResult, *, agent: str, method: str, form: bytes | None) -> bytes:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [
        f"{method} {target} HTTP/1.1",
        f"Host: {parts.netloc.rpartition('@')[2]}",
        f"User-Agent: {agent}",
        "Accept: */*",
        "Connection: close",
    ]
    if form is not None:
        lines.append("Content-Type: application/x-www-form-urlencoded")
        lines.append(f"Content-Length: {len(form)}")
    head = "\r\n".join(lines)
    if any(character in target for character in " \r\n\0"):
        raise NotLoopback(parts.geturl())
    return head.encode("utf-8") + b"\r\n\r\n" + (form or b"")


async def _exchange(address: str, port: int, tls: ssl.SSLContext | None, request: bytes) -> Fetched:
    reader, writer = await asyncio.open_connection(address, port, ssl=tls)
    try:
        writer.write(request)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        # A mail program takes the picture too, so that the server sees a whole exchange.
        await reader.read(MAX_BODY)
    finally:
        writer.close()
    status, _, headers = head.partition("\r\n")
    location = ""
    for line in headers.split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == "location":
            location = value.strip()
    return Fetched(int(status.split(" ", 2)[1]), location)
