"""What follows a delivery: readers at a real web server, and mail back to a real SMTP server."""

from __future__ import annotations

import asyncio
import email
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from email.message import EmailMessage
from email.policy import default as modern
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from esp.simulator.config import ReaderRates, SimulatorConfig
from esp.simulator.readers import urls_in
from esp.simulator.server import Simulator
from tests.esp.simulator.world import (
    RETURN_PATH,
    Signer,
    WebServer,
    config,
    deliver,
    mail,
    summary,
    until,
)


@dataclass
class Inbox:
    """The product's inbound side: keeps what it is sent."""

    port: int = 0
    mails: list[tuple[str, list[str], EmailMessage, str]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.refusals:
            return self.refusals.pop(0)
        parsed = email.message_from_bytes(envelope.content, policy=modern)
        source = session.peer[0]
        # aiosmtpd says `<>` for the null sender.
        sender = (envelope.mail_from or "").strip("<>")
        self.mails.append((sender, envelope.rcpt_tos, parsed, source))
        return "250 OK"


@pytest.fixture
async def inbox() -> AsyncIterator[Inbox]:
    inbox = Inbox()
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(inbox, hostname="mx.mailwright.test"), "127.0.1.1", 0
    )
    inbox.port = server.sockets[0].getsockname()[1]
    yield inbox
    server.close()


def with_mail(directory: Path, inbox: Inbox, **profile: Any) -> SimulatorConfig:
    return replace(config(directory, **profile), outbound_smtp_port=inbox.port)


@pytest.fixture
async def world(tmp_path: Path, inbox: Inbox) -> AsyncIterator[Simulator]:
    async with Simulator(with_mail(tmp_path, inbox)) as simulator:
        Signer().publish(simulator)
        yield simulator


def publish_return_path(simulator: Simulator) -> None:
    from esp.simulator.zones import make_record

    record = make_record("bounces.acme.example", "MX", "10 mx.mailwright.test.")
    simulator.zones.publish([record])


async def test_a_late_bounce_comes_as_a_dsn(world: Simulator, inbox: Inbox):
    publish_return_path(world)
    assert (await deliver(world, "latebounce@bigmail.test"))[0] == 250
    await until(lambda: inbox.mails)
    sender, recipients, dsn, source = inbox.mails[0]
    assert (sender, recipients, source) == ("", [RETURN_PATH], "127.0.11.11")
    assert dsn.get_content_type() == "multipart/report"
    assert dsn.get_param("report-type") == "delivery-status"
    _, status, original = dsn.iter_parts()
    per_message, per_recipient = status.get_payload()
    assert per_message["Reporting-MTA"] == "dns; mx1.bigmail.test"
    assert per_recipient["Final-Recipient"] == "rfc822; latebounce@bigmail.test"
    assert (per_recipient["Action"], per_recipient["Status"]) == ("failed", "5.1.1")
    assert "<1@bounces.acme.example>" in str(original.get_payload())
    await until(lambda: not world._readers.pending)
    assert (await summary(world))["late_bounces_sent"] == 1


async def test_a_complaint_comes_as_arf_to_the_published_address(world: Simulator, inbox: Inbox):
    raw = mail(to="complaint@bigmail.test", headers="X-Name: Grüße\n")
    assert (await deliver(world, "complaint@bigmail.test", raw))[0] == 250
    await until(lambda: inbox.mails)
    sender, recipients, arf, _ = inbox.mails[0]
    assert (sender, recipients) == ("feedback@bigmail.test", ["fbl@mailwright.test"])
    assert arf.get_param("report-type") == "feedback-report"
    _, report, original = arf.iter_parts()
    assert report.get_content_type() == "message/feedback-report"
    fields = email.message_from_string(str(report.get_payload(0)), policy=modern)
    assert fields["Feedback-Type"] == "abuse"
    assert fields["Original-Mail-From"] == f"<{RETURN_PATH}>"
    assert fields["Original-Rcpt-To"] == "<complaint@bigmail.test>"
    assert fields["Source-IP"] == "127.0.2.1"
    assert original.get_payload(0)["Message-ID"] == "<1@bounces.acme.example>"
    await until(lambda: not world._readers.pending)
    assert (await summary(world))["complaints_sent"] == 1


async def test_a_complaint_goes_to_the_cfbl_address_of_proven_mail(tmp_path: Path, inbox: Inbox):
    async with Simulator(with_mail(tmp_path, inbox, verify_authentication=True)) as world:
        signer = Signer()
        signer.publish(world)
        publish_return_path(world)
        to, cfbl = "complaint@plainmail.test", "fbl@bounces.acme.example"
        raw = mail(to=to, headers=f"CFBL-Address: {cfbl}; report=arf\n")
        await deliver(world, to, signer.sign(raw))
        await deliver(world, "complaint.2@plainmail.test", raw)
        await until(lambda: len(inbox.mails) == 2)
    # The unsigned one proves nothing, so its header counts for nothing (RFC 9477).
    assert sorted(mail[1][0] for mail in inbox.mails) == [cfbl, "fbl@mailwright.test"]


async def test_an_absent_reader_replies_once_to_the_return_path(world: Simulator, inbox: Inbox):
    publish_return_path(world)
    for _ in range(2):
        await deliver(world, "ooo.dana@plainmail.test")
    robot = mail(id_="2", headers="Auto-Submitted: auto-generated\n")
    await deliver(world, "ooo.dana@plainmail.test", robot)
    await until(lambda: inbox.mails and not world._readers.pending)
    assert len(inbox.mails) == 1
    sender, recipients, reply, _ = inbox.mails[0]
    assert (sender, recipients) == ("", [RETURN_PATH])
    assert reply["Auto-Submitted"] == "auto-replied"
    assert reply["In-Reply-To"] == "<1@bounces.acme.example>"


async def test_mail_back_is_tried_again_and_given_up_on_refusal(world: Simulator, inbox: Inbox):
    publish_return_path(world)
    world.clock.run_at(50)
    inbox.refusals = ["451 4.3.0 Not now"]
    await deliver(world, "latebounce@plainmail.test")
    await until(lambda: inbox.mails and not world._readers.pending)
    inbox.refusals = ["550 5.7.1 Never"]
    await deliver(world, "latebounce.2@plainmail.test")
    await until(lambda: not world._readers.pending)
    counts = await summary(world)
    assert (counts["late_bounces_sent"], counts["outgoing_failed"]) == (1, 1)


HTML = """<html><body><img src="http://{host}/o/pixel.gif" width=1 height=1>
<a href="http://{host}/c/one">One</a> <a href="http://192.0.2.7/c/outside">Outside</a>
<a href="http://{host}/unsubscribe/page">Leave</a></body></html>"""
ONE_CLICK = (
    "List-Unsubscribe: <mailto:u@bounces.acme.example>, <http://{host}/u/token>\n"
    "List-Unsubscribe-Post: List-Unsubscribe=One-Click\n"
)


def campaign(to: str, port: int) -> bytes:
    host = f"track.mailwright.test:{port}"
    return mail(to=to, html=HTML.format(host=host), headers=ONE_CLICK.format(host=host))


async def sent_to_readers(tmp_path: Path, count: int = 1, **rates: float) -> tuple[Any, Any]:
    profile = {"readers": ReaderRates(**rates)}
    async with WebServer().running() as web, Simulator(config(tmp_path, **profile)) as simulator:
        for number in range(count):
            to = f"dana{number}@plainmail.test"
            await deliver(simulator, to, campaign(to, web.port))
        await until(lambda: not simulator._readers.pending)
        return web, await summary(simulator)


async def test_a_reader_opens_and_clicks_the_real_urls(tmp_path: Path):
    # Two links may be clicked, one leads off loopback: over ten readers both are chosen.
    web, counts = await sent_to_readers(tmp_path, 10, open_rate=1.0, click_rate=1.0)
    assert web.paths().count("/o/pixel.gif") == 10
    assert 0 < web.paths().count("/c/one") < 10
    assert set(web.paths()) == {"/o/pixel.gif", "/c/one"}, "redirects are not followed"
    assert counts["opens"] == 10
    assert counts["clicks"] == web.paths().count("/c/one")


async def test_a_reader_unsubscribes_by_one_click(tmp_path: Path):
    web, counts = await sent_to_readers(tmp_path, unsubscribe_rate=1.0)
    method, path, _, body = web.requests[0]
    assert (method, path, body) == ("POST", "/u/token", b"List-Unsubscribe=One-Click")
    assert (len(web.requests), counts["unsubscribes"]) == (1, 1)


async def test_a_reader_without_one_click_unsubscribes_by_mail(tmp_path: Path, inbox: Inbox):
    rates = ReaderRates(unsubscribe_rate=1.0)
    async with Simulator(with_mail(tmp_path, inbox, readers=rates)) as world:
        publish_return_path(world)
        headers = "List-Unsubscribe: <mailto:u.1@bounces.acme.example?subject=unsubscribe>\n"
        await deliver(world, "dana@plainmail.test", mail(headers=headers))
        await until(lambda: inbox.mails)
    assert inbox.mails[0][:2] == ("dana@plainmail.test", ["u.1@bounces.acme.example"])


async def test_a_machine_fetches_everything_at_once(tmp_path: Path):
    web, counts = await sent_to_readers(tmp_path, machine_rate=1.0)
    assert web.paths() == ["/o/pixel.gif", "/c/one", "/unsubscribe/page"]
    assert not web.paths("POST"), "a scanner never posts, so it unsubscribes nobody"
    assert any(word in web.requests[0][2] for word in ("proxy", "scanner"))
    assert (counts["machine_opens"], counts["opens"], counts["machine_clicks"]) == (1, 0, 2)


async def test_shares_come_from_the_seed(tmp_path: Path):
    web, counts = await sent_to_readers(tmp_path / "a", 30, open_rate=0.5)
    again, _ = await sent_to_readers(tmp_path / "b", 30, open_rate=0.5)
    assert 5 < counts["opens"] < 25
    assert len(web.requests) == len(again.requests)


async def test_a_dead_web_server_is_a_fact_and_no_trouble(tmp_path: Path):
    rates = ReaderRates(open_rate=1.0)
    async with Simulator(config(tmp_path, readers=rates)) as simulator:
        async with WebServer().running() as web:
            port = web.port
        await deliver(simulator, "dana@plainmail.test", campaign("dana@plainmail.test", port))
        await until(lambda: not simulator._readers.pending)
        counts = await summary(simulator)
    assert (counts["opens"], counts["fetches_failed"]) == (0, 1)


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.7/",
        "http://8.8.8.8:80/",
        "http://example.com/",
        "http://metadata.acme.example/",
        "http://[::ffff:10.0.0.1]/",
        "ftp://127.0.0.1/",
        "http://127.0.0.1:99999/",
        "http:///x",
        "http://127.0.0.1/a\r\nX: y",
    ],
)
async def test_nothing_off_loopback_is_fetched(world: Simulator, url: str):
    from esp.simulator.fetch import Fetcher, FetchFailed, NotLoopback
    from esp.simulator.zones import make_record

    world.zones.publish([make_record("metadata.acme.example", "A", "169.254.169.254")])
    with pytest.raises((NotLoopback, FetchFailed) if "\r" in url else NotLoopback):
        await Fetcher(world.zones).fetch(url, agent="x")


def test_urls_are_found_in_bad_html():
    raw = mail(
        html="<a href=http://a.test/1>x<A\nclass=b HREF=' http://a.test/2?a=1&amp;b=2 '>y"
        '<img src=x><img><a><area href="http://a.test/3"><img data-src="http://a.test/4">'
    )
    urls = urls_in(email.message_from_bytes(raw, policy=modern))
    assert urls.links == ("http://a.test/1", "http://a.test/2?a=1&b=2")
    assert (urls.images, urls.one_click, urls.unsubscribe_mail) == ((), None, None)
