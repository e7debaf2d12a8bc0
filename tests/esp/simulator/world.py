"""Builders for tests against a real simulator: configuration, mail, signatures, tiny servers."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiosmtplib
import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from esp.simulator.config import PROFILES, SimulatorConfig
from esp.simulator.server import Simulator
from esp.simulator.zones import make_record

SOURCE = "127.0.2.1"
RETURN_PATH = "b.1@bounces.acme.example"


def config(directory: Path, **profile: Any) -> SimulatorConfig:
    fields = {"slowness": 0.0, "verify_authentication": False, **profile}
    return SimulatorConfig(data_dir=directory, profile=PROFILES["test"]).with_profile(**fields)


def mail(
    *, to: str = "dana@plainmail.test", id_: str = "1", html: str = "", headers: str = ""
) -> bytes:
    """Return a message from Acme as octets with CRLF."""
    kind = "text/html" if html else "text/plain"
    text = (
        f"From: Acme <news@acme.example>\nTo: {to}\nSubject: Hello\n"
        f"Message-ID: <{id_}@bounces.acme.example>\nDate: Sun, 22 Nov 2026 01:00:00 +0000\n"
        f"{headers}MIME-Version: 1.0\nContent-Type: {kind}; charset=utf-8\n\n"
        f"{html or 'Good day.'}\n"
    )
    return text.replace("\n", "\r\n").encode()


@asynccontextmanager
async def connection(
    simulator: Simulator, host: str, *, source: str = SOURCE, tls: bool | None = False
) -> AsyncIterator[aiosmtplib.SMTP]:
    """Connect to an MX host of a provider, as the product's engine would."""
    client = aiosmtplib.SMTP(
        hostname=host,
        port=simulator.smtp_port,
        local_hostname="out1.mailwright.test",
        source_address=(source, 0),
        start_tls=tls,
        validate_certs=False,
        timeout=5,
    )
    await client.connect()
    try:
        yield client
    finally:
        client.close()


def host_of(simulator: Simulator, domain: str) -> str:
    return next(p.mx[0].address for p in simulator.providers if p.domain == domain)


async def deliver(
    simulator: Simulator,
    to: str,
    raw: bytes | None = None,
    *,
    mail_from: str = RETURN_PATH,
    source: str = SOURCE,
    tls: bool | None = False,
) -> tuple[int, str]:
    """Send one message to one recipient; return the last reply, whatever it was."""
    host = host_of(simulator, to.rpartition("@")[2])
    try:
        async with connection(simulator, host, source=source, tls=tls) as client:
            await client.mail(mail_from)
            await client.rcpt(to)
            response = await client.data(raw or mail(to=to))
            await client.quit()
    except aiosmtplib.SMTPResponseException as error:
        return error.code, error.message
    return response.code, response.message


@dataclass
class Signer:
    """Acme's DKIM keys, published in the zones of a simulator."""

    domain: str = "acme.example"
    rsa_key: rsa.RSAPrivateKey = field(
        default_factory=lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048)
    )
    ed25519_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def publish(self, simulator: Simulator, *, spf: bool = True) -> None:
        rsa_public = self.rsa_key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        ed_public = self.ed25519_key.public_key().public_bytes_raw()
        records = [
            (f"r1._domainkey.{self.domain}", "v=DKIM1; k=rsa; p=" + _b64(rsa_public)),
            (f"e1._domainkey.{self.domain}", "v=DKIM1; k=ed25519; p=" + _b64(ed_public)),
            (f"_dmarc.{self.domain}", "v=DMARC1; p=quarantine"),
        ]
        if spf:
            records.append((f"bounces.{self.domain}", "v=spf1 ip4:127.0.2.0/24 -all"))
        simulator.zones.publish(make_record(name, "TXT", value) for name, value in records)

    def sign(self, raw: bytes) -> bytes:
        """Return the message with an RSA signature made by dkimpy."""
        pem = self.rsa_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        header: bytes = dkim.sign(
            raw, b"r1", self.domain.encode(), pem, canonicalize=(b"relaxed", b"relaxed")
        )
        return header + raw

    def sign_ed25519(self, raw: bytes) -> bytes:
        """Return the message with an Ed25519 signature (RFC 8463), made by hand."""
        import hashlib

        body = raw.split(b"\r\n\r\n", 1)[1].rstrip(b"\r\n") + b"\r\n"
        body_hash = _b64(hashlib.sha256(body).digest())
        value = (
            f"v=1; a=ed25519-sha256; c=relaxed/relaxed; d={self.domain}; s=e1;"
            f" h=from:subject; bh={body_hash}; b="
        )
        signed = (
            "from:Acme <news@acme.example>\r\nsubject:Hello\r\ndkim-signature:" + value
        ).encode()
        signature = self.ed25519_key.sign(hashlib.sha256(signed).digest())
        return f"DKIM-Signature: {value}{_b64(signature)}\r\n".encode() + raw


def _b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


@dataclass
class WebServer:
    """A tiny HTTP server that keeps what was asked of it."""

    requests: list[tuple[str, str, str, bytes]] = field(default_factory=list)
    port: int = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[WebServer]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(
            line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line
        )
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        method, path, _ = head.split("\r\n")[0].split(" ")
        self.requests.append((method, path, headers.get("user-agent", ""), body))
        status = "302 Found\r\nLocation: http://192.0.2.1/" if "/c/" in path else "200 OK"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok".encode())
        await writer.drain()
        writer.close()

    def paths(self, method: str = "GET") -> list[str]:
        return [path for verb, path, _, _ in self.requests if verb == method]


async def until(condition: Any, seconds: float = 5.0) -> None:
    """Wait until a condition holds; fails the test when it does not in time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def summary(simulator: Simulator) -> dict[str, int]:
    from esp.simulator import ledger

    return await simulator.store.read(ledger.summary)
