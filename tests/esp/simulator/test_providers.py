"""One test for each manner of the simulated providers, through real sockets."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiosmtplib
import pytest
import uvloop

from esp.simulator.config import SimulatorError
from esp.simulator.server import Simulator
from tests.esp.simulator.world import (
    RETURN_PATH,
    Signer,
    config,
    connection,
    deliver,
    host_of,
    mail,
    summary,
)


async def test_plainmail_accepts_and_keeps_the_octets(simulator: Simulator):
    raw = mail() + b"..a line that begins with dots\r\n.\tand one more\r\n"
    code, text = await deliver(simulator, "Dana@plainmail.test", raw)
    assert (code, text.split(" ")[0]) == (250, "2.0.0")
    row = await simulator.store.read(
        lambda db: tuple(
            db.execute(
                "SELECT recipient, mail_from, message_id, raw, source_ip FROM message"
            ).fetchone()
        )
    )
    assert row == (
        "dana@plainmail.test",
        RETURN_PATH,
        "<1@bounces.acme.example>",
        raw,
        "127.0.2.1",
    )


async def test_an_empty_message_ends_too(simulator: Simulator):
    reader, writer = await asyncio.open_connection("127.0.11.61", simulator.smtp_port)
    # Pipelined (RFC 2920), and the next command waits behind the dot.
    writer.write(
        b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<dana@plainmail.test>\r\nDATA\r\n.\r\nQUIT\r\n"
    )
    lines = (await reader.read()).decode().split("\r\n")
    writer.close()
    assert [line[:3] for line in lines[-5:-1]] == ["250", "354", "250", "221"]


async def test_bigmail_limits_connections(simulator: Simulator):
    host = host_of(simulator, "bigmail.test")
    clients = []
    for _ in range(10):
        client = aiosmtplib.SMTP(hostname=host, port=simulator.smtp_port, start_tls=False)
        await client.connect()
        clients.append(client)
    # The limit counts over both MX hosts of the provider.
    with pytest.raises(aiosmtplib.SMTPConnectError, match="421"):
        await aiosmtplib.SMTP(
            hostname="127.0.11.12", port=simulator.smtp_port, start_tls=False
        ).connect()
    for client in clients:
        client.close()


async def test_bigmail_limits_the_rate_and_recovers(simulator: Simulator):
    host = host_of(simulator, "bigmail.test")
    replies = []
    for _ in range(2):
        async with connection(simulator, host) as client:
            try:
                for _ in range(80):
                    await client.mail(RETURN_PATH)
                    await client.rset()
            except aiosmtplib.SMTPResponseException as error:
                replies.append((error.code, error.message))
    assert [code for code, _ in replies] == [421]
    assert "4.7.28" in replies[0][1]
    assert "unusual rate" in replies[0][1]
    simulator.clock.advance(10)
    assert (await deliver(simulator, "dana@bigmail.test"))[0] == 250


async def test_greymail_greylists_each_triple_once(simulator: Simulator):
    to = "dana@greymail.test"
    code, text = await deliver(simulator, to)
    assert (code, text.split(" ")[0]) == (451, "4.7.1")
    assert (await deliver(simulator, to))[0] == 451, "a retry at once comes too early"
    simulator.clock.advance(1.1)
    # Another source address of the same network is the same sender to a greylister.
    assert (await deliver(simulator, to, source="127.0.2.2"))[0] == 250
    assert (await deliver(simulator, to, mail_from="b.2@bounces.acme.example"))[0] == 451
    counts = await summary(simulator)
    assert (counts["deferred_replies"], counts["delivered"]) == (3, 1)


async def test_strictmail_refuses_unauthenticated_and_unaligned_mail(tmp_path: Path):
    to = "dana@strictmail.test"
    async with Simulator(config(tmp_path, verify_authentication=True)) as simulator:
        code, text = await deliver(simulator, to)
        assert (code, "5.7.26" in text, "SPF or DKIM" in text) == (550, True, True)
        # SPF holds, but for another organisation than the author's.
        code, text = await deliver(simulator, to, mail_from="b@bounces.mailwright.test")
        assert (code, "5.7.26" in text, "aligned" in text) == (550, True, True)
        signer = Signer()
        signer.publish(simulator, spf=False)
        raw = mail(to=to)
        assert (await deliver(simulator, to, signer.sign(raw)))[0] == 250
        assert (await deliver(simulator, to, signer.sign(raw) + b"added\r\n"))[0] == 550


async def test_slowmail_takes_its_time(tmp_path: Path):
    async with Simulator(config(tmp_path, slowness=0.1)) as simulator:
        started = time.monotonic()
        assert (await deliver(simulator, "dana@slowmail.test"))[0] == 250
        # Greeting 1.0, MAIL 0.2, RCPT 0.2, message 1.5 seconds, at a tenth.
        assert time.monotonic() - started >= 0.28


async def try_brokenmail(simulator: Simulator, number: int) -> str:
    address = f"b.{number}@bounces.acme.example"
    raw = mail(id_=str(number))
    try:
        code, _ = await deliver(simulator, "dana@brokenmail.test", raw, mail_from=address)
    except (aiosmtplib.SMTPException, OSError):
        return "broken"
    return str(code)


async def test_brokenmail_breaks_off_by_the_seed_and_counts_what_it_kept(tmp_path: Path):
    async with Simulator(config(tmp_path / "a")) as simulator:
        first = [await try_brokenmail(simulator, number) for number in range(60)]
        counts = await summary(simulator)
        assert 5 <= first.count("broken") <= 30
        assert counts["unknown_fate"] > 0, "some breaks come after the dot"
        assert counts["delivered"] == first.count("250") + counts["unknown_fate"]
        for number, result in enumerate(first):
            while result == "broken":
                result = await try_brokenmail(simulator, number)
        counts = await summary(simulator)
        assert (counts["delivered"], counts["duplicates"]) == (60, 0)
    async with Simulator(config(tmp_path / "b")) as simulator:
        again = [await try_brokenmail(simulator, number) for number in reversed(range(60))]
    assert again[::-1] == first, "the order of the messages changes nothing"


async def test_brokenmail_never_keeps_silently_where_the_profile_forbids_it(tmp_path: Path):
    async with Simulator(config(tmp_path, break_after_dot=False)) as simulator:
        results = [await try_brokenmail(simulator, number) for number in range(60)]
        counts = await summary(simulator)
    assert "broken" in results
    assert (counts["unknown_fate"], counts["delivered"]) == (0, results.count("250"))


@pytest.mark.parametrize(
    ("local", "code", "status"),
    [
        ("bounce", 550, "5.1.1"),
        ("bounce-17", 550, "5.1.1"),
        ("full", 552, "5.2.2"),
        ("full-soft", 452, "4.2.2"),
        ("block", 550, "5.7.1"),
        ("bouncer", 250, "2.0.0"),
    ],
)
async def test_magic_mailboxes_refuse(simulator: Simulator, local: str, code: int, status: str):
    reply = await deliver(simulator, f"{local}@plainmail.test")
    assert (reply[0], reply[1].split(" ")[0]) == (code, status)


async def test_a_defer_mailbox_defers_twice_and_then_accepts(simulator: Simulator):
    codes = [(await deliver(simulator, "defer.1@plainmail.test"))[0] for _ in range(3)]
    assert codes == [450, 450, 250]


async def test_a_slow_mailbox_is_slow_at_any_provider(tmp_path: Path):
    async with Simulator(config(tmp_path, slowness=0.1)) as simulator:
        started = time.monotonic()
        assert (await deliver(simulator, "slow@plainmail.test"))[0] == 250
        assert time.monotonic() - started >= 0.3


async def test_a_share_of_mailboxes_does_not_exist(tmp_path: Path):
    async with Simulator(config(tmp_path, unknown_mailbox_rate=0.5)) as simulator:
        codes = [(await deliver(simulator, f"u{n}@plainmail.test"))[0] for n in range(20)]
        assert 3 <= codes.count(550) <= 17
        assert codes == [(await deliver(simulator, f"u{n}@plainmail.test"))[0] for n in range(20)]


async def test_nobody_relays_and_syntax_is_checked(simulator: Simulator):
    async with connection(simulator, host_of(simulator, "plainmail.test")) as client:
        await client.ehlo()
        assert (await client.execute_command(b"RCPT", b"TO:<a@b.test>")).code == 503
        assert (await client.execute_command(b"MAIL", b"FROM:nobody")).code == 501
        assert (await client.execute_command(b"MAIL", b"FROM:<> SIZE=99999999")).code == 552
        await client.mail(RETURN_PATH)
        assert (await client.execute_command(b"DATA")).code == 554
        assert (await client.execute_command(b"RCPT", b"TO:<a@bigmail.test>")).code == 550
        assert (await client.execute_command(b"WHAT")).code == 502


async def test_starttls_is_offered_by_most(simulator: Simulator):
    assert (await deliver(simulator, "dana@bigmail.test", tls=True))[0] == 250
    tls = await simulator.store.read(lambda db: db.execute("SELECT tls FROM message").fetchone()[0])
    assert tls.startswith("TLSv1.")
    with pytest.raises(aiosmtplib.SMTPException):
        await deliver(simulator, "dana@plainmail.test", tls=True)


def test_it_runs_on_uvloop_too(tmp_path: Path):
    async def send() -> tuple[int, str]:
        async with Simulator(config(tmp_path)) as simulator:
            return await deliver(simulator, "dana@bigmail.test", tls=True)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(send())[0] == 250


async def test_a_large_message_arrives_and_a_too_large_one_is_refused(simulator: Simulator):
    raw = mail() + b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 20_000
    assert (await deliver(simulator, "dana@bigmail.test", raw, tls=True))[0] == 250
    size = await simulator.store.read(
        lambda db: db.execute("SELECT length(raw) FROM message").fetchone()[0]
    )
    assert size == len(raw)
    too_large = mail() + (b"y" * 998 + b"\r\n") * 26_500
    assert (await deliver(simulator, "dana@plainmail.test", too_large))[0] == 552


async def test_a_second_copy_is_a_duplicate(simulator: Simulator):
    for _ in range(2):
        await deliver(simulator, "dana@plainmail.test")
    await deliver(simulator, "erin@plainmail.test")
    counts = await summary(simulator)
    assert (counts["delivered"], counts["duplicates"]) == (2, 1)


async def test_a_taken_port_is_one_sentence(simulator: Simulator, tmp_path: Path):
    from dataclasses import replace

    port = simulator.smtp_port
    with pytest.raises(SimulatorError, match=f"127.0.11.11:{port}: stop the program .*smtp-port"):
        await Simulator(replace(config(tmp_path / "b"), smtp_port=port)).start()
