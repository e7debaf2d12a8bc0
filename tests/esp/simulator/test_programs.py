"""The two programs: `python -m esp.simulator` and its benchmark sink, started for real."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from esp.simulator.client import SimulatorClient
from esp.simulator.sink import Counts, serve


@contextmanager
def program(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_the_simulator_prints_where_it_is_and_stops_on_sigterm(tmp_path: Path):
    with program("esp.simulator", "--data", str(tmp_path), "--profile", "test") as process:
        addresses = json.loads(process.stdout.readline())
        assert SimulatorClient(addresses["http"]).health()["profile"] == "test"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stderr.read() == ""


@pytest.mark.parametrize("option", ["--http", "--dns", "--smtp-port"])
def test_a_taken_port_is_one_sentence(tmp_path: Path, option: str):
    with socket.socket() as taken:
        taken.bind(("127.0.11.31" if option == "--smtp-port" else "127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        value = str(port) if option == "--smtp-port" else f"127.0.0.1:{port}"
        with program("esp.simulator", "--data", str(tmp_path), option, value) as process:
            assert process.wait(20) == 1
            error = process.stderr.read()
    assert error.count("\n") == 1
    assert f":{port}: stop the program" in error
    assert option in error


def test_data_that_cannot_be_kept_is_one_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with program("esp.simulator", "--data", str(tmp_path / "file")) as process:
        assert process.wait(20) == 1
        assert "--data" in process.stderr.read()


def transaction(number: int) -> bytes:
    return (
        b"MAIL FROM:<b@acme.example> BODY=8BITMIME\r\nRCPT TO:<dana@plainmail.test>\r\nDATA\r\n"
        b"Subject: x\r\nmessage-id: <%d@acme.example>\r\n\r\n..body\r\n.\r\n" % number
    )


async def converse(port: int, sent: bytes, pieces: int = 1) -> list[str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    size = max(len(sent) // pieces, 1)
    for start in range(0, len(sent), size):
        writer.write(sent[start : start + size])
        await asyncio.sleep(0.001 if pieces > 1 else 0)
    lines = (await asyncio.wait_for(reader.read(), 5)).decode().split("\r\n")
    writer.close()
    return lines


@pytest.mark.parametrize("pieces", [1, 97])
async def test_the_sink_counts_copies_however_the_octets_arrive(pieces: int):
    counts = Counts()
    server = await serve("127.0.0.1", 0, counts)
    port = server.sockets[0].getsockname()[1]
    sent = b"EHLO x\r\n" + transaction(1) + transaction(2) + transaction(1)
    sent += b"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n.\r\nXCOUNT\r\nNOPE\r\nQUIT\r\n"
    lines = await converse(port, sent, pieces)
    server.close()
    assert lines[-4].startswith("250 {")
    counted = json.loads(lines[-4][4:])
    assert (counted["messages"], counted["distinct"], counted["duplicates"]) == (4, 3, 1)
    assert lines[-3:] == ["502 5.5.1 Unrecognized command", "221 2.0.0 Bye", ""]
    assert [line[:3] for line in lines].count("354") == 4
    assert counts.copies[b"<1@acme.example>"] == 2


@pytest.mark.parametrize("pieces", [1, 61])
async def test_the_sink_takes_chunks_for_recipients_only(pieces: int):
    counts = Counts()
    server = await serve("127.0.0.1", 0, counts)
    content = b"Subject: x\r\nMessage-ID: <7@acme.example>\r\n\r\nQUIT\r\n.\r\n"
    envelope = b"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\n"
    whole = b"BDAT %d LAST\r\n%b" % (len(content), content)
    halves = b"BDAT 20\r\n%bBDAT %d last\r\n%b" % (content[:20], len(content) - 20, content[20:])
    sent = b"EHLO x\r\n" + envelope + whole + envelope + halves + whole + b"DATA\r\nBDAT x\r\n"
    lines = await converse(server.sockets[0].getsockname()[1], sent, pieces)
    server.close()
    codes = [line[:3] for line in lines if line]
    assert codes[-10:] == ["250"] * 7 + ["503", "503", "501"]
    assert counts.copies == {b"<7@acme.example>": 2}
    assert counts.octets == 2 * len(content)


async def test_the_sink_forgets_on_request():
    counts = Counts()
    server = await serve("127.0.0.1", 0, counts)
    await converse(
        server.sockets[0].getsockname()[1], b"EHLO x\r\n" + transaction(1) + b"XRESET\r\nQUIT\r\n"
    )
    server.close()
    assert (counts.messages, counts.first_at) == (0, None)


def test_the_sink_program_writes_its_counts(tmp_path: Path):
    path = tmp_path / "counts.json"
    with program("esp.simulator.sink", "--count-file", str(path)) as process:
        port = json.loads(process.stdout.readline())["port"]
        asyncio.run(converse(port, b"EHLO x\r\n" + transaction(1) + b"QUIT\r\n"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert json.loads(process.stdout.read())["messages"] == 1
    assert json.loads(path.read_text())["distinct"] == 1
