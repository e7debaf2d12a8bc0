"""Demo mode's pages: they exist in demo mode only, and show what the simulator really holds."""

from __future__ import annotations

import smtplib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import Client
from pytest_django import Settings

from esp.simulator.client import SimulatorClient
from esp.simulator.config import SimulatorConfig
from esp.simulator.server import SimulatorThread
from tests import make
from tests.cast import Cast

MAIL = (
    "From: a@acme.example\r\nTo: reader@plainmail.test\r\nSubject: Hello <b>\r\n"
    "Message-ID: <1@acme.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n"
    "<p>Hi</p><script>alert(1)</script>\r\n"
)


@pytest.fixture
def demo(settings: Settings, tmp_path: Path) -> Iterator[SimulatorThread]:
    """Demo mode with a simulated internet of its own."""
    with SimulatorThread(SimulatorConfig(data_dir=tmp_path / "simulator")) as thread:
        settings.DEMO = True
        settings.SIMULATOR_URL = thread.url
        settings.DNS_RESOLVERS = [thread.addresses["dns"]]
        yield thread


@pytest.mark.parametrize("tail", ["", "mail/1/", "mail/1/html", "a@bigmail.test/"])
def test_outside_demo_mode_there_is_nothing(alice: Client, settings: Settings, tail: str) -> None:
    settings.DEMO = False
    assert alice.get(f"/rehearsal/{tail}").status_code == 404


def test_publishing_outside_demo_mode_is_not_found(
    alice: Client, cast: Cast, settings: Settings
) -> None:
    settings.DEMO = False
    domain = make.domain(cast.acme, verified=False)
    assert alice.post(f"/rehearsal/publish/{domain.public_id}/").status_code == 404


def test_a_simulator_that_is_away_is_told(alice: Client, cast: Cast, settings: Settings) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings.DEMO, settings.SIMULATOR_URL = True, f"http://127.0.0.1:{port}"
    answer = alice.get("/rehearsal/")
    assert answer.status_code == 503
    assert "The simulated internet does not answer" in answer.text
    domain = make.domain(cast.acme, verified=False)
    make.dkim_key(domain)
    answer = alice.post(f"/rehearsal/publish/{domain.public_id}/")
    assert answer.status_code == 422
    assert "The simulated internet does not answer" in answer.text


def test_one_button_publishes_and_verifies(
    alice: Client, bob: Client, charlie: Client, demo: SimulatorThread
) -> None:
    where = alice.post("/deliverability/domains/add/", {"name": "acme.example"})["Location"]
    button = where.replace("/deliverability/domains/", "/rehearsal/publish/")
    assert bob.post(button).status_code == 403
    assert charlie.post(button).status_code == 404
    assert alice.get(button).status_code == 405
    assert SimulatorClient(demo.url).zone("acme.example") == []
    page = alice.post(button, follow=True)
    assert "records are published in the simulated DNS" in page.text
    assert "Verified" in page.text
    assert len(SimulatorClient(demo.url).zone("acme.example")) >= 5


def test_what_a_mailbox_holds_can_be_read_and_runs_nothing(
    visitor: Client, demo: SimulatorThread
) -> None:
    client = SimulatorClient(demo.url)
    host = demo.addresses["providers"]["plainmail.test"][0] if "providers" in demo.addresses else ""
    host = host or _mx(demo)
    with smtplib.SMTP(host, demo.addresses["smtp_port"], timeout=10) as smtp:
        smtp.sendmail("b@acme.example", ["reader@plainmail.test"], MAIL)
    (summary,) = client.messages("reader@plainmail.test")
    assert "reader@plainmail.test" in visitor.get("/rehearsal/").text
    assert "Hello &lt;b&gt;" in visitor.get("/rehearsal/reader@plainmail.test/").text
    page = visitor.get(f"/rehearsal/mail/{summary.id}/").text
    assert "Verified by the receiver" in page
    assert "DMARC" in page
    assert "<script>alert(1)" not in page
    frame = visitor.get(f"/rehearsal/mail/{summary.id}/html")
    policy = frame["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    assert "allow-scripts" not in policy
    assert frame["X-Frame-Options"] in {"SAMEORIGIN", ""} or "X-Frame-Options" not in frame
    assert visitor.get("/rehearsal/mail/999999/").status_code == 404


def _mx(demo: SimulatorThread) -> str:
    """Ask the simulated DNS where mail for plainmail.test goes."""
    import dns.resolver

    resolver = dns.resolver.Resolver(configure=False)
    host, _, port = demo.addresses["dns"].rpartition(":")
    resolver.nameservers, resolver.port = [host], int(port)
    mx = str(resolver.resolve("plainmail.test", "MX")[0].exchange)
    return str(resolver.resolve(mx, "A")[0])
