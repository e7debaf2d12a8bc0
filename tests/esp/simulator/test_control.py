"""The control API by its client: records, mailboxes, messages, counts, ledger, clock, readers."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from esp.simulator.client import (
    DnsRecord,
    SimulatorClient,
    SimulatorRefused,
    SimulatorUnreachable,
)
from esp.simulator.server import Simulator, SimulatorThread
from tests.esp.simulator.world import RETURN_PATH, config, deliver, mail


@pytest.fixture
def thread(tmp_path: Path) -> Iterator[SimulatorThread]:
    with SimulatorThread(config(tmp_path)) as running:
        yield running


@pytest.fixture
def client(thread: SimulatorThread) -> SimulatorClient:
    return SimulatorClient(thread.url)


def send(thread: SimulatorThread, to: str, raw: bytes | None = None) -> int:
    return asyncio.run(deliver(thread.simulator, to, raw))[0]


def test_health_tells_the_addresses(client: SimulatorClient, thread: SimulatorThread):
    health = client.health()
    assert (health["status"], health["http"]) == ("ok", thread.url)
    assert health["smtp_port"] == thread.simulator.smtp_port
    assert health["providers"]["plainmail.test"] == ["127.0.11.61"]


def test_records_are_published_listed_and_deleted(client: SimulatorClient):
    record = DnsRecord("K1._domainkey.acme.example.", "txt", 'v=DKIM1; n="a b"; p=x\\y')
    assert client.publish_records([record]) == 1
    assert client.publish_records([record]) == 1, "publishing again replaces"
    assert client.zone("acme.example") == [
        DnsRecord("k1._domainkey.acme.example", "TXT", 'v=DKIM1; n="a b"; p=x\\y')
    ]
    assert client.delete_zone("acme.example") == 1
    assert client.zone("acme.example") == []


@pytest.mark.parametrize(
    "record",
    [
        {"name": "acme.example", "type": "A"},
        {"name": "acme.example", "type": "A", "value": "nowhere"},
        {"name": "acme.example", "type": "TXT", "value": "x", "ttl": "soon"},
        {"name": "a..b", "type": "TXT", "value": "x"},
        "acme.example A 127.0.0.1",
    ],
)
def test_a_bad_record_publishes_nothing(client: SimulatorClient, record: object):
    good = {"name": "good.example", "type": "A", "value": "127.0.0.1"}
    with pytest.raises(SimulatorRefused) as refused:
        client.publish_records([good, record])
    assert refused.value.status == 400
    assert client.zone("good.example") == []


def test_mailboxes_and_messages_can_be_read(client: SimulatorClient, thread: SimulatorThread):
    send(thread, "dana@plainmail.test", mail(html="<p>Grüße</p>"))
    send(thread, "dana@plainmail.test", mail(id_="2"))
    send(thread, "erin_x@bigmail.test", mail(id_="3"))
    page = client.mailboxes()
    assert [(box.address, box.messages) for box in page.mailboxes] == [
        ("erin_x@bigmail.test", 1),
        ("dana@plainmail.test", 2),
    ]
    assert not page.has_more
    assert [box.address for box in client.mailboxes(provider="plainmail.test").mailboxes] == [
        "dana@plainmail.test"
    ]
    assert len(client.mailboxes(q="erin_").mailboxes) == 1
    assert client.mailboxes(q="n%x").mailboxes == []
    assert client.mailboxes(page=2).mailboxes == []
    second, first = client.messages("Dana@plainmail.test")
    assert (second.message_id, second.subject) == ("<2@bounces.acme.example>", "Hello")
    stored = client.message(first.id)
    assert stored.raw == mail(html="<p>Grüße</p>")
    assert (stored.html.strip(), stored.text) == ("<p>Grüße</p>", None)
    assert ("Subject", "Hello") in stored.headers
    assert stored.summary.source_ip == "127.0.2.1"


def test_what_is_not_there_is_a_404(client: SimulatorClient):
    for path in ("/messages/1", "/messages/x", "/messages/" + "9" * 30, "/nothing"):
        with pytest.raises(SimulatorRefused) as refused:
            client._call("GET", path)
        assert refused.value.status == 404
    with pytest.raises(SimulatorRefused) as refused:
        client._call("POST", "/summary", {})
    assert refused.value.status == 405


def test_the_ledger_settles_every_recipient(client: SimulatorClient, thread: SimulatorThread):
    for to in ("dana@plainmail.test", "bounce@plainmail.test", "block@plainmail.test"):
        send(thread, to, mail(to=to))
    send(thread, "dana@greymail.test")
    facts = list(client.ledger())
    assert [(f.kind, f.recipient, f.code, f.mail_from) for f in facts] == [
        ("delivered", "dana@plainmail.test", 250, RETURN_PATH),
        ("refused", "bounce@plainmail.test", 550, RETURN_PATH),
        ("refused", "block@plainmail.test", 550, RETURN_PATH),
    ]
    assert facts[2].message_id == "<1@bounces.acme.example>"
    assert [f.recipient for f in client.ledger(after_id=facts[0].id)] == [
        "bounce@plainmail.test",
        "block@plainmail.test",
    ]
    assert [f.code for f in client.ledger(kinds=["deferred"])] == [451]
    assert list(client.ledger(message_id_domain="globex.example")) == []
    ours = client.summary(message_id_domain="bounces.acme.example")
    assert (ours.delivered, ours.refused, ours.deferred_replies) == (1, 2, 1)
    assert client.summary(message_id_domain="globex.example").delivered == 0
    assert client.summary(since=thread.simulator.clock.now() + 1).delivered == 0


def test_the_ledger_pages(client: SimulatorClient, thread: SimulatorThread):
    for number in range(5):
        send(thread, f"u{number}@plainmail.test")
    first = client._call("GET", "/ledger?limit=2")
    assert len(first["facts"]) == 2
    rest = client._call("GET", f"/ledger?limit=4&after_id={first['next_after_id']}")
    assert (len(rest["facts"]), rest["next_after_id"]) == (3, None)


def test_clock_and_readers_can_be_set(client: SimulatorClient, thread: SimulatorThread):
    before = thread.simulator.clock.now()
    assert client.set_clock(advance_seconds=3600) >= before + 3600
    client.set_clock(speed=20)
    assert thread.simulator.clock.speed == 20
    rates = client.set_readers(open_rate=0.5, delay_seconds=(0, 2))
    assert (rates["open_rate"], rates["click_rate"]) == (0.5, 0.0)
    assert thread.simulator._readers.rates.delay_seconds == (0.0, 2.0)
    for bad in ({"open_rate": 2}, {"open_rate": "often"}, {"mood": 1}):
        with pytest.raises(SimulatorRefused):
            client.set_readers(**bad)
    with pytest.raises(SimulatorRefused):
        client.set_clock(speed=0)


def test_published_records_are_there_after_a_restart(tmp_path: Path):
    records = [
        DnsRecord("acme.example", "MX", "10 mx.mailwright.test."),
        DnsRecord("k1._domainkey.acme.example", "TXT", "v=DKIM1; p=" + "A" * 400, 60),
        DnsRecord("gone.globex.example", "A", "127.0.0.1"),
    ]
    with SimulatorThread(config(tmp_path)) as thread:
        SimulatorClient(thread.url).publish_records(records)
        SimulatorClient(thread.url).delete_zone("globex.example")
    with SimulatorThread(config(tmp_path)) as thread:
        client = SimulatorClient(thread.url)
        assert client.zone("acme.example") == records[:2]
        assert client.zone("globex.example") == []


def test_mail_is_there_after_a_restart(tmp_path: Path):
    for _ in range(2):
        with SimulatorThread(config(tmp_path)) as thread:
            send(thread, "dana@plainmail.test")
            client = SimulatorClient(thread.url)
            counts = client.summary()
    assert (counts.delivered, counts.duplicates) == (1, 1)


def test_no_simulator_is_said_in_a_sentence():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(SimulatorUnreachable, match=f"No simulator answers at {url}"):
            SimulatorClient(url).health()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"rubbish\r\n\r\n", b"400"),
        (b"POST /zones/records HTTP/1.1\r\nContent-Length: 3\r\n\r\n{x}", b"400"),
        (b"POST /zones/records HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
        (b"POST /zones/records HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"413"),
        (b"GET /summary?since=now HTTP/1.1\r\n\r\n", b"400"),
    ],
)
async def test_bad_requests_get_an_answer(simulator: Simulator, request_: bytes, status: bytes):
    port = int(simulator.addresses["http"].rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_)
    first_line = await reader.readline()
    writer.close()
    assert first_line.split(b" ")[1] == status


def test_a_connection_carries_many_requests(thread: SimulatorThread):
    import http.client

    connection = http.client.HTTPConnection(thread.url.removeprefix("http://"), timeout=5)
    for _ in range(3):
        connection.request("GET", "/health")
        assert json.loads(connection.getresponse().read())["status"] == "ok"
    connection.close()
    with urllib.request.urlopen(thread.url + "/readers") as response:
        assert json.loads(response.read())["open_rate"] == 0.0
