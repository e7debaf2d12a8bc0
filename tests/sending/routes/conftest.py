"""What the tests of routes share: forgotten caches, servers, a message."""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Callable, Iterator

import pytest

from sending.engine.ports import Order, Source, Way
from sending.routes.selectors import forget_routes
from tests.engine_sink.sink import self_signed_context
from tests.sending.routes.servers import Answer, Provider, Smarthost

SOURCE = Source("ip-1", "127.0.0.1", "out1.mailwright.test")
LETTER = b"""\
DKIM-Signature: v=1; a=rsa-sha256; d=acme.example; s=k1; b=AAAA\r
From: =?utf-8?q?Acme_=C3=9Cber?= <news@acme.example>\r
To: "Bob, of Acme" <bob@bigmail.test>, dora@bigmail.test\r
Cc: emil@bigmail.test\r
Reply-To: help@acme.example\r
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r
Date: Sun, 22 Nov 2026 05:00:00 +0000\r
Message-ID: <abc@b.acme.example>\r
List-Unsubscribe: <https://t.acme.example/u/1>, <mailto:u.1@b.acme.example>\r
List-Unsubscribe-Post: List-Unsubscribe=One-Click\r
Feedback-ID: spring:acme\r
X-Order: 42\r
MIME-Version: 1.0\r
Content-Type: multipart/mixed; boundary=m\r
\r
--m\r
Content-Type: multipart/alternative; boundary=a\r
\r
--a\r
Content-Type: text/plain; charset=utf-8\r
Content-Transfer-Encoding: quoted-printable\r
\r
Hello Bob =E2=82=AC\r
--a\r
Content-Type: text/html; charset=utf-8\r
Content-Transfer-Encoding: quoted-printable\r
\r
<p>Hello <b>Bob</b></p>\r
--a--\r
--m\r
Content-Type: application/pdf\r
Content-Disposition: attachment; filename="bill.pdf"\r
Content-Transfer-Encoding: base64\r
\r
JVBERi0=\r
--m--\r
"""


def order(*ways: Way, rcpt: str = "bob@bigmail.test", data: bytes = LETTER) -> Order:
    async def made() -> bytes:
        return data

    return Order(
        message_id=uuid.UUID(int=7),
        mail_from="b.1.2@b.acme.example",
        rcpt_to=rcpt,
        domain=rcpt.rpartition("@")[2],
        tenant="acme",
        batch="spring",
        ways=ways or (Way(SOURCE),),
        make=made,
    )


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    forget_routes()
    yield
    forget_routes()


@pytest.fixture(scope="session")
def server_tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    return self_signed_context(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def provider() -> Iterator[Callable[[Answer], Provider]]:
    started: list[Provider] = []

    def start(answer: Answer) -> Provider:
        started.append(Provider(answer))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def smarthost() -> Iterator[Callable[..., Smarthost]]:
    started: list[Smarthost] = []

    def start(*args: object, **options: object) -> Smarthost:
        started.append(Smarthost(*args, **options))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for server in started:
        server.stop()
