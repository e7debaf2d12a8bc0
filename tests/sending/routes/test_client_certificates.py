"""A smarthost that wants to see a certificate of ours: real handshakes over loopback."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.test import Client

from sending.engine.pool import Deliverer
from sending.routes.probe import probe
from tests.sending.routes import test_smarthosts
from tests.sending.routes.servers import Demanding, Smarthost
from tests.sending.routes.test_smarthosts import plan, route, send, smtp

engine, witness = test_smarthosts.engine, test_smarthosts.witness
DAY = dt.timedelta(days=1)


@dataclass
class Made:
    """A certificate with its key, as PEM texts."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def secrets(self) -> dict[str, str]:
        pem = serialization.Encoding.PEM
        key = self.key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {"certificate": self.certificate.public_bytes(pem).decode(), "key": key.decode()}


def make_certificate(name: str, by: Made | None = None, *, ends: dt.timedelta = DAY) -> Made:
    """Make a certificate: an authority's own, or one that `by` has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 10 * DAY)
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
    )
    return Made(builder.sign(by.key if by else key, hashes.SHA256()), key)


AUTHORITY = make_certificate("Acme's own authority")
GOOD = make_certificate("mailwright", AUTHORITY)
EXPIRED = make_certificate("mailwright", AUTHORITY, ends=-DAY)
STRANGER = make_certificate("mailwright", make_certificate("Somebody else's authority"))


def demanding(folder: Path, version: ssl.TLSVersion) -> ssl.SSLContext:
    """Return the context of a server that talks only to those whom Acme's authority knows."""
    path = folder / "server.pem"
    server = make_certificate("smarthost.test", AUTHORITY).secrets
    path.write_text(server["key"] + server["certificate"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(path)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=AUTHORITY.secrets["certificate"])
    return context


@pytest.fixture(params=["TLSv1_2", "TLSv1_3"])
def wants_certificate(request: pytest.FixtureRequest, tmp_path: Path) -> ssl.SSLContext:
    """With 1.3 the client is ready before the server has looked at its certificate."""
    return demanding(tmp_path, ssl.TLSVersion[request.param])


@pytest.fixture(params=["starttls", "implicit"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def known_by(port: int, made: Made | None, mode: str) -> Any:
    return route(port, auth="", tls=mode, username="", secrets=made.secrets if made else {})


async def test_a_message_goes_to_a_server_that_knows_our_certificate(
    mode: str,
    wants_certificate: ssl.SSLContext,
    smarthost: Callable[..., Smarthost],
    engine: Deliverer,
) -> None:
    server = smarthost(wants_certificate, implicit=mode == "implicit")
    outcome = await send(engine, plan(smtp(known_by(server.port, GOOD, mode))))
    assert outcome.kind == "delivered", outcome.text
    assert outcome.tls_version == wants_certificate.maximum_version.name.replace("_", ".")
    assert len(server.inbox.messages) == 1


def test_a_test_says_that_the_route_works(
    mode: str, wants_certificate: ssl.SSLContext, smarthost: Callable[..., Smarthost]
) -> None:
    server = smarthost(wants_certificate, implicit=mode == "implicit")
    found = probe(known_by(server.port, GOOD, mode))
    assert found.is_ok, found


WORDS = {
    "none": "a client certificate, and the route has none",
    "stranger": "The server does not know who issued our client certificate",
    "expired": "Our client certificate ended on",
}
REFUSED = {"none": None, "expired": EXPIRED, "stranger": STRANGER}


@pytest.mark.parametrize("which", sorted(REFUSED))
def test_a_test_says_what_is_wrong_with_the_certificate(
    which: str, mode: str, wants_certificate: ssl.SSLContext
) -> None:
    server = Demanding(wants_certificate, implicit=mode == "implicit")
    try:
        found = probe(known_by(server.port, REFUSED[which], mode))
    finally:
        server.stop()
    assert WORDS[which] in found.error
    broken = [step for step in found.steps if step.is_ok is False]
    assert [step.title for step in broken] == ["Make the connection secure"]


def test_the_servers_own_clock_may_say_that_it_has_expired(
    mode: str, wants_certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sending.routes.handshake.ended_at", lambda certificate: None)
    server = Demanding(wants_certificate, implicit=mode == "implicit")
    try:
        found = probe(known_by(server.port, EXPIRED, mode))
    finally:
        server.stop()
    assert found.error == "The server says that our client certificate has expired."


def test_a_server_that_just_goes_away_is_suspected(
    mode: str, tmp_path: Path, smarthost: Callable[..., Smarthost]
) -> None:
    """As asyncio's servers do: no alert is sent. (With TLS 1.2 the handshake itself breaks off.)"""
    server = smarthost(demanding(tmp_path, ssl.TLSVersion.TLSv1_3), implicit=mode == "implicit")
    found = probe(known_by(server.port, STRANGER, mode))
    assert "as servers do that refuse our client certificate" in found.error


def test_another_failure_is_not_laid_on_the_certificate(
    server_tls: ssl.SSLContext, smarthost: Callable[..., Smarthost]
) -> None:
    server = smarthost(server_tls, implicit=True)
    found = probe(known_by(server.port, GOOD, "starttls"))  # it waits for a handshake, we for words
    assert not found.is_ok
    assert "certificate" not in found.error


@pytest.mark.parametrize("which", sorted(REFUSED))
async def test_a_message_waits_while_the_certificate_is_refused(
    which: str, mode: str, wants_certificate: ssl.SSLContext, engine: Deliverer
) -> None:
    """Nothing of it was taken: no message of unknown fate, and another route may try."""
    server = Demanding(wants_certificate, implicit=mode == "implicit")
    try:
        outcome = await send(engine, plan(smtp(known_by(server.port, REFUSED[which], mode))))
    finally:
        await asyncio.to_thread(server.stop)
    assert (outcome.kind, outcome.is_ambiguous) == ("deferred", False), outcome.text
    assert outcome.phase in ("connect", "tls", "greeting", "ehlo")
    assert set(server.commands) <= {"EHLO", "STARTTLS"}


async def test_another_route_takes_the_message(
    wants_certificate: ssl.SSLContext,
    server_tls: ssl.SSLContext,
    smarthost: Callable[..., Smarthost],
    engine: Deliverer,
) -> None:
    first, second = smarthost(wants_certificate), smarthost(server_tls)
    found = plan(
        smtp(known_by(first.port, EXPIRED, "starttls")),
        smtp(route(second.port, "Second", auth="", secrets={})),
    )
    outcome = await send(engine, found)
    assert (outcome.kind, outcome.route) == ("delivered", "Second")


def test_an_expired_certificate_is_refused_when_it_is_given(operator: Client) -> None:
    fields = {
        "name": "Relay", "status": "active", "host": "smtp.example.com", "port": "587",
        "tls": "starttls", "verify": "on", "auth": "",
    }  # fmt: skip
    answer = operator.post("/operator/routes/new/smarthost", fields | EXPIRED.secrets)
    assert answer.status_code == 422
    assert "This certificate ended on" in answer.content.decode()
    assert operator.post(
        "/operator/routes/new/smarthost", fields | GOOD.secrets
    ).status_code == 302  # fmt: skip
