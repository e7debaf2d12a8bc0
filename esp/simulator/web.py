"""A small HTTP/1.1 server for JSON on loopback: enough for the control API, and no more."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

MAX_HEAD = 65536
MAX_BODY = 16 * 1024 * 1024
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed",
            413: "Content Too Large", 500: "Internal Server Error"}  # fmt: skip


class RequestRefused(Exception):
    """A request cannot be served; becomes `{"error": …}` with this status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """One request: `query` has the last value of each name, `body` the parsed JSON or None."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    args: dict[str, str]

    def number(self, name: str, default: float) -> float:
        """Return a number from the query. Raises RequestRefused when it is not one."""
        try:
            return float(self.query.get(name, default))
        except ValueError:
            raise RequestRefused(400, f"{name} must be a number.") from None


Handler = Callable[[Request], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path pattern like `/messages/{id}`, and who answers."""

    method: str
    pattern: str
    handler: Handler

    def match(self, path: str) -> dict[str, str] | None:
        expression = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.pattern)
        found = re.fullmatch(expression, path)
        return {k: unquote(v) for k, v in found.groupdict().items()} if found else None


class JsonServer:
    """Serves routes; each connection may carry many requests, one after another."""

    def __init__(self, routes: list[Route]) -> None:
        self._routes = routes
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen; raises OSError when the port is taken."""
        self._server = await asyncio.start_server(self._converse, host, port, limit=MAX_HEAD)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server:
            self._server.close()
        for writer in list(self._writers):
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        keep, status, payload = False, 200, None
        try:
            method, target, headers = _parse_head(head)
            keep = headers.get("connection", "").lower() != "close"
            body = await _body(reader, headers)
            payload = await self._serve(method, target, body)
        except RequestRefused as refusal:
            # A body that was not read would be taken for the next request.
            keep = keep and refusal.status != 413
            status, payload = refusal.status, {"error": str(refusal)}
        except Exception as error:  # the API must answer, and say what broke
            status, payload = 500, {"error": f"{type(error).__name__}: {error}"}
        writer.write(_response(status, payload, keep=keep))
        await writer.drain()
        return keep

    async def _serve(self, method: str, target: str, body: bytes) -> Any:
        parts = urlsplit(target)
        is_known = False
        for route in self._routes:
            args = route.match(parts.path)
            if args is None:
                continue
            is_known = True
            if route.method == method:
                query = dict(parse_qsl(parts.query, keep_blank_values=True))
                return await route.handler(Request(method, parts.path, query, _json(body), args))
        if is_known:
            raise RequestRefused(405, f"{method} is not allowed on {parts.path}.")
        raise RequestRefused(404, f"There is nothing at {parts.path}.")


def _parse_head(head: str) -> tuple[str, str, dict[str, str]]:
    first, *rest = head.split("\r\n")
    words = first.split(" ")
    if len(words) != 3:
        raise RequestRefused(400, "This is not an HTTP request.")
    pairs = (line.partition(":") for line in rest if line)
    return words[0], words[1], {name.strip().lower(): value.strip() for name, _, value in pairs}


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    length = headers.get("content-length", "0")
    if not length.isdigit() or "transfer-encoding" in headers:
        raise RequestRefused(413, "Send a body with a Content-Length.")
    if int(length) > MAX_BODY:
        raise RequestRefused(413, f"A body holds at most {MAX_BODY} bytes.")
    return await reader.readexactly(int(length))


def _json(body: bytes) -> Any:
    if not body:
        return None
    try:
        return json.loads(body)
    except ValueError:
        raise RequestRefused(400, "The body is not JSON.") from None


def _response(status: int, payload: Any, *, keep: bool) -> bytes:
    body = json.dumps(payload).encode()
    head = (
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"Connection: {'keep-alive' if keep else 'close'}\r\n\r\n"
    )
    return head.encode() + body
