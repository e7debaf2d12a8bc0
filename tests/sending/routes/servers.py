"""Real servers on loopback: smarthosts that want a log-in, and an HTTP API that says anything."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


@dataclass
class Call:
    """One request that a provider got."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Answer:
    status: int = 200
    data: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    wait: float = 0.0
    drip: bool = False
    cut: bool = False


class Provider:
    """An HTTP server that answers every request the same way, and keeps what it got."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.calls: list[Call] = []
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                call = Call(self.command, self.path, headers, self.rfile.read(length))
                provider.calls.append(call)
                self.reply(provider.answer)

            def reply(self, answer: Answer) -> None:
                time.sleep(answer.wait)
                if answer.cut:
                    self.close_connection = True
                    return
                data = (
                    answer.data
                    if isinstance(answer.data, bytes | str)
                    else (json.dumps(answer.data) if answer.data is not None else "")
                )
                body = data.encode() if isinstance(data, str) else data
                self.send_response(answer.status)
                kind = answer.headers.get("Content-Type", "application/json")
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                for name, value in answer.headers.items():
                    if name != "Content-Type":
                        self.send_header(name, value)
                self.end_headers()
                if not answer.drip:
                    self.wfile.write(body)
                    return
                try:
                    for number in range(len(body)):
                        self.wfile.write(body[number : number + 1])
                        time.sleep(0.1)
                except OSError:
                    self.close_connection = True

            do_GET = do_POST = handle_any

            def log_message(self, format: str, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def hang_up(talk: SMTP) -> None:
    """End a connection at once."""
    if isinstance(talk.transport, asyncio.Transport):
        talk.transport.abort()


@dataclass
class Inbox:
    """What a smarthost took, and whether it takes anything."""

    messages: list[Envelope] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)
    refuse_mail: str = ""
    cuts: bool = False  # takes a message and goes away without a word

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.refuse_mail:
            return self.refuse_mail
        envelope.mail_from = address
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.messages.append(envelope)
        if self.cuts:
            hang_up(server)
        return "250 2.0.0 taken"

    async def auth_XOAUTH2(self, server: SMTP, args: list[str]) -> AuthResult:
        text = base64.b64decode(args[1]).decode()
        user, token = text.split("\x01")[:2]
        self.logins.append((user.removeprefix("user="), token.removeprefix("auth=Bearer ")))
        return AuthResult(success=token == "auth=Bearer fresh-token")


class Smarthost:
    """aiosmtpd as a relay: log-in needed, over STARTTLS or TLS from the start."""

    def __init__(
        self,
        tls: ssl.SSLContext | None,
        *,
        implicit: bool = False,
        password: str = "",
        refuse_mail: str = "",
    ) -> None:
        self.inbox = Inbox(refuse_mail=refuse_mail)

        def authenticate(
            server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
        ) -> AuthResult:
            assert isinstance(data, LoginPassword)
            self.inbox.logins.append((data.login.decode(), data.password.decode()))
            return AuthResult(success=data.password.decode() == password, handled=False)

        self._loop = asyncio.new_event_loop()

        self._talks: list[SMTP] = []

        def serve() -> SMTP:
            with warnings.catch_warnings():
                # It does not see the TLS that the connection starts with.
                warnings.simplefilter("ignore")
                talk = SMTP(
                    self.inbox,
                    hostname="smarthost.test",
                    tls_context=None if implicit else tls,
                    require_starttls=tls is not None and not implicit,
                    authenticator=authenticate,
                    auth_required=bool(password),
                    auth_require_tls=not implicit,
                    enable_SMTPUTF8=True,
                    loop=self._loop,
                )
            self._talks.append(talk)
            return talk

        # In a thread of its own: the tests that use it run on a loop, too.
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        starting = self._loop.create_server(serve, "127.0.0.1", 0, ssl=tls if implicit else None)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(5)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        """End the sessions that are still open."""
        mine = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not mine]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for talk in self._talks:  # whoever was connected last may not have gone yet
            hang_up(talk)
        await asyncio.sleep(0)


class Demanding:
    """A smarthost over OpenSSL's own sockets, which says by an alert what it has against a client.

    (asyncio's servers just go away.) It knows EHLO, STARTTLS and QUIT; nobody gets further here.
    """

    def __init__(self, tls: ssl.SSLContext, *, implicit: bool) -> None:
        self._tls, self._implicit = tls, implicit
        self.commands: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        self._thread.join()
        self._socket.close()

    _stopping = False

    def _serve(self) -> None:
        while True:
            raw, _ = self._socket.accept()
            if self._stopping:
                raw.close()
                return
            raw.settimeout(5)
            with raw, contextlib.suppress(OSError):
                self._talk(raw)

    def _talk(self, raw: socket.socket) -> None:
        if not self._implicit:
            raw.sendall(b"220 strict.test\r\n")
            if not self._commands(raw, b"250-strict.test\r\n250 STARTTLS\r\n"):
                return
        with self._tls.wrap_socket(raw, server_side=True) as secure:
            if self._implicit:
                secure.sendall(b"220 strict.test\r\n")
            self._commands(secure, b"250 strict.test\r\n")

    def _commands(self, talk: socket.socket, hello: bytes) -> bool:
        """Answer until STARTTLS (True) or the end."""
        file = talk.makefile("rb")
        for line in file:
            verb = line.split()[0].decode().upper()
            self.commands.append(verb)
            if verb == "STARTTLS":
                talk.sendall(b"220 go ahead\r\n")
                return True
            talk.sendall(hello if verb == "EHLO" else b"221 bye\r\n")
        return False
